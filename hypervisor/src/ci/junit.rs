//! The report as JUnit XML, as GitLab, Jenkins and the actions for GitHub read it.

use std::borrow::Cow;

use super::case::{Case, Verdict};
use super::report::{Report, Suite};
use super::text;

/// How much of a console goes into the file, in bytes: its end.
const CONSOLE: usize = 64 << 10;

/// The whole document.
pub(super) fn write(report: &Report) -> String {
    let tests: usize = report.suites.iter().map(|suite| suite.cases.len()).sum();
    let run_ns = report
        .suites
        .iter()
        .fold(0, |sum: u64, suite| sum.saturating_add(suite.run_ns()));
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"paravane\" tests=\"{tests}\" \
         failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">\n",
        report.failed,
        report.errors,
        report.skipped,
        seconds(run_ns),
    );
    for suite in &report.suites {
        write_suite(&mut out, report, suite);
    }
    out + "</testsuites>\n"
}

fn write_suite(out: &mut String, report: &Report, suite: &Suite) {
    *out += &format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">\n",
        attribute(&suite.name),
        suite.cases.len(),
        suite.count(Verdict::Failed),
        suite.count(Verdict::Error),
        suite.count(Verdict::Skipped),
        seconds(suite.run_ns()),
    );
    let properties = [
        ("paravane.schema", report.schema.to_string()),
        ("paravane.version", report.version.to_owned()),
        ("paravane.build", report.build.to_owned()),
        ("paravane.platform", report.platform.name().to_owned()),
    ];
    *out += "    <properties>\n";
    for (name, value) in properties {
        let value = attribute(&value);
        *out += &format!("      <property name=\"{name}\" value=\"{value}\"/>\n");
    }
    *out += "    </properties>\n";
    for case in &suite.cases {
        write_case(out, suite, case);
    }
    *out += "  </testsuite>\n";
}

fn write_case(out: &mut String, suite: &Suite, case: &Case) {
    *out += &format!(
        "    <testcase name=\"{}\" classname=\"{}.{}\" time=\"{}\">\n",
        attribute(&case.name),
        attribute(&suite.name),
        case.mode,
        seconds(case.run_ns),
    );
    if let Some(failed) = &case.failure {
        let message = attribute(&failed.sentence());
        let kind = failed.why.kind();
        *out += &match case.verdict {
            Verdict::Skipped => format!("      <skipped message=\"{message}\"/>\n"),
            Verdict::Error => element("error", kind, &message, case),
            Verdict::Failed | Verdict::Passed => element("failure", kind, &message, case),
        };
    }
    if !case.console.is_empty() {
        let start = case.console.len().saturating_sub(CONSOLE);
        let console = case.console.get(start..).unwrap_or_default();
        let gap = if start > 0 {
            format!("({start} bytes before this are left out)\n")
        } else {
            String::new()
        };
        let console = content(&text::visible(console));
        *out += &format!("      <system-out>{gap}{console}</system-out>\n");
    }
    *out += "    </testcase>\n";
}

fn element(name: &str, kind: &str, message: &str, case: &Case) -> String {
    let body = content(&case.evidence());
    format!("      <{name} type=\"{kind}\" message=\"{message}\">{body}</{name}>\n")
}

fn seconds(ns: u64) -> String {
    format!("{:.6}", ns as f64 / 1e9)
}

/// Text for between tags. Characters that XML forbids cannot be escaped there, so they are shown.
fn content(text: &str) -> String {
    escape(&text::visible(text.as_bytes()), |_| None)
}

/// Text for a quoted value, where a reader would turn a bare line feed into a space.
fn attribute(text: &str) -> String {
    escape(&text::visible(text.as_bytes()), |next| match next {
        '\n' => Some("&#10;"),
        '\t' => Some("&#9;"),
        _ => None,
    })
}

fn escape(text: &str, more: fn(char) -> Option<&'static str>) -> String {
    text.chars()
        .map(|next| match next {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            // Always, so that no `]]>` is left.
            '>' => "&gt;".into(),
            '"' => "&quot;".into(),
            '\'' => "&apos;".into(),
            _ => more(next).map_or_else(|| Cow::Owned(next.to_string()), Cow::Borrowed),
        })
        .collect()
}
