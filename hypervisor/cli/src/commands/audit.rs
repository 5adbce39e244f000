//! `paravane audit`: counts the privileged and sensitive instructions of an image.

use std::fmt::Write as _;

use hypercall_abi::boot;
use hypervisor::audit::{self, CLASSES, ImageKind, LIST_LIMIT, Report};
use hypervisor::image_note;
use serde::Serialize;

use crate::args::{Audit, Kind};
use crate::files;
use crate::output;
use crate::status::{self, Failure};

/// The version of [`Json`] as it is serialized; it rises when a field changes its meaning.
const SCHEMA: u32 = 1;
/// Findings shown without `--all`.
const SHOWN: usize = 20;
const WIDTH: u16 = 80;

/// Audit an image; the exit status.
pub fn run(options: &Audit) -> Result<u8, Failure> {
    let (name, bytes) = image(options)?;
    let report = audit::audit(&bytes).map_err(|error| Failure::host(format!("{name}: {error}")))?;
    let kind = options.kind.map_or_else(|| kind_of(&bytes), rules);
    let forbidden = report.forbidden_count(kind);
    if options.json {
        output::print_json(&Json {
            schema: SCHEMA,
            image: &name,
            kind,
            forbidden,
            report: &report,
        })?;
    } else {
        output::print(&text(&name, &report, kind, options.all))?;
    }
    Ok(if options.forbid && forbidden > 0 {
        status::FOUND
    } else {
        status::OK
    })
}

fn image(options: &Audit) -> Result<(String, Vec<u8>), Failure> {
    let Some(path) = &options.elf else {
        return Ok(match options.image.unwrap_or(Kind::Pv) {
            Kind::Pv => (
                "the built-in pv guest".to_owned(),
                guest_images::PV.to_vec(),
            ),
            Kind::Native => (
                "the built-in native guest".to_owned(),
                guest_images::NATIVE.to_vec(),
            ),
        });
    };
    let mend = "name an ELF64 file, or none for the kernel that is built in";
    Ok((
        path.display().to_string(),
        files::read(path, "image", files::LIMIT, mend)?,
    ))
}

fn rules(kind: Kind) -> ImageKind {
    match kind {
        Kind::Pv => ImageKind::Paravirtual,
        Kind::Native => ImageKind::Native,
    }
}

/// What the image's note says it is; the stricter rules for an image that says nothing.
fn kind_of(image: &[u8]) -> ImageKind {
    match image_note(image) {
        Some(note) if note.kind == boot::ImageKind::Native as u32 => ImageKind::Native,
        _ => ImageKind::Paravirtual,
    }
}

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    image: &'a str,
    kind: ImageKind,
    /// Findings that an image of this kind may not have.
    forbidden: u64,
    #[serde(flatten)]
    report: &'a Report,
}

fn text(name: &str, report: &Report, kind: ImageKind, all: bool) -> String {
    let mut text = format!("{name}, held to the {} rules\n", rules_name(kind));
    // Writing to a string cannot fail.
    for section in &report.sections {
        let _ = writeln!(
            text,
            "  {:<16} {:#018x}, {} bytes",
            section.name, section.address, section.size
        );
    }
    let _ = writeln!(
        text,
        "  {} instructions, {} bytes of padding\n",
        report.instructions, report.padding_bytes
    );
    text += &counts(report, kind);
    if report.unaudited_bytes > 0 {
        let _ = writeln!(
            text,
            "{} executable bytes lie in no executable section: not audited",
            report.unaudited_bytes
        );
    }
    text += &findings(report, kind, all);
    let _ = match report.forbidden_count(kind) {
        0 => writeln!(text, "nothing that these rules forbid"),
        1 => writeln!(text, "1 finding that these rules forbid"),
        count => writeln!(text, "{count} findings that these rules forbid"),
    };
    text
}

fn rules_name(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Native => "native",
        ImageKind::Paravirtual => "pv",
    }
}

fn counts(report: &Report, kind: ImageKind) -> String {
    let mut table = output::table(&["  class", "findings", "rule"], WIDTH);
    for info in CLASSES {
        let rule = if kind.forbids(info.class) {
            "forbidden"
        } else {
            "counted"
        };
        table.add_row([
            format!("  {}", info.class),
            report.counts.of(info.class).to_string(),
            rule.to_owned(),
        ]);
    }
    table.add_row([
        "  allowed by name".to_owned(),
        report.allowed_count.to_string(),
        "see --help".to_owned(),
    ]);
    output::align_right(&mut table, 1..2);
    output::lines(&mut table) + "\n"
}

fn findings(report: &Report, kind: ImageKind, all: bool) -> String {
    let lines: Vec<String> = if all {
        let allowed = report
            .allowed
            .iter()
            .map(|allowed| format!("{} (allowed: {})", allowed.finding, allowed.why));
        report
            .findings
            .iter()
            .map(ToString::to_string)
            .chain(allowed)
            .collect()
    } else {
        report
            .forbidden(kind)
            .take(SHOWN)
            .map(ToString::to_string)
            .collect()
    };
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let hidden = if all {
        report.unlisted()
    } else {
        report.forbidden_count(kind) - lines.len() as u64
    };
    let _ = match (hidden, all) {
        (0, _) => Ok(()),
        (_, true) => writeln!(
            text,
            "and {hidden} more: at most {LIST_LIMIT} of a sort are listed"
        ),
        (_, false) => writeln!(text, "and {hidden} more: --all lists them"),
    };
    if !text.is_empty() {
        text.push('\n');
    }
    text
}
