//! The run: the columns in turn, round by round, then lives and processes, then the report.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::{CodeCache, FastTraps, Learned};
use tempfile::TempDir;

use crate::columns::MODES;
use crate::error::BenchError;
use crate::floor::{self, KvmOn, Platform};
use crate::goals::goals;
use crate::host::HostInfo;
use crate::life::{self, Known, Phases, Program};
use crate::micro::{self, Line, MicroRow, Outcome, Yardstick};
use crate::options::{Effort, Options};
use crate::progress::Progress;
use crate::report::{Bare, Cell, Conditions, Extra, Figure, Report, Row, SCHEMA};
use crate::stats::Spread;
use crate::watch::Watch;

/// What the host's kernel still does for a machine that was closed, it has done by then.
const PAUSE: Duration = Duration::from_millis(3);

/// Boots that learn before one is measured: a site is patched once it has trapped three times, in whichever boots.
const LESSONS: u32 = 4;

/// Measure, and tell `progress` what is measured next.
///
/// # Errors
/// [`BenchError`], with what mends it. A single row that fails is no error: the report says so.
pub fn run(options: &Options, progress: &mut dyn Progress) -> Result<Report, BenchError> {
    options.check()?;
    let start = Instant::now();
    let _on = KvmOn::hold()?;
    let host = HostInfo::detect()?;
    let effort = options.effort();
    let mut run = Run {
        options,
        effort,
        platform: host.platform,
        ns_per_cycle: host.ns_per_cycle(),
        watch: Watch::start().map_err(BenchError::Thread)?,
        learned: HashMap::new(),
        kept: tempfile::tempdir().map_err(BenchError::Cache)?,
        pools: HashMap::new(),
        extras: Vec::new(),
    };
    run.measure(&mut Steps {
        progress,
        at: 0,
        of: (1 + MODES.len()) * effort.rounds + 3,
    })?;
    let rows = run.rows();
    Ok(Report {
        schema: SCHEMA,
        goals: goals(host.platform, &rows, &run.extras),
        host,
        conditions: Conditions {
            quick: options.quick,
            rounds: effort.rounds,
            beside_another_vm: true,
            console: "memory; of processes, a pipe",
        },
        modes: MODES.iter().map(|mode| mode.name()).collect(),
        rows,
        extras: run.extras,
        took_ms: start.elapsed().as_millis() as u64,
    })
}

/// What gets out of the guest and back for each exit that is subtracted from a boot.
const EXIT_OF_A_FAULT: floor::Row = floor::Row::TrapExit;

/// Counts the steps.
struct Steps<'a> {
    progress: &'a mut dyn Progress,
    at: usize,
    of: usize,
}

impl Steps<'_> {
    fn next(&mut self, what: &str) {
        self.at += 1;
        self.progress.step(self.at, self.of, what);
    }
}

/// Whose samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Guest(Mode),
    Floor,
}

/// The samples of one cell, of all rounds.
#[derive(Default)]
struct Pool {
    /// Cycles an operation.
    cycles: Vec<f64>,
    exits: Option<f64>,
    operations: f64,
    missing: Option<Cell>,
}

impl Pool {
    fn add_exits(&mut self, exits: f64, operations: f64) {
        *self.exits.get_or_insert(0.0) += exits;
        self.operations += operations;
    }

    fn cell(&self, ns_per_cycle: f64) -> Cell {
        if let Some(missing) = &self.missing {
            return missing.clone();
        }
        let Some(cycles) = Spread::of(&self.cycles) else {
            return Cell::NotMeasured;
        };
        Cell::Measured(Figure {
            ns: cycles.scaled(ns_per_cycle),
            cycles,
            samples: self.cycles.len(),
            exits_per_op: self.exits.map(|exits| exits / self.operations),
        })
    }
}

struct Run<'a> {
    options: &'a Options,
    effort: Effort,
    platform: Platform,
    ns_per_cycle: f64,
    watch: Watch,
    /// What the boots of a mode have learned.
    learned: HashMap<Mode, Learned>,
    /// And likewise, in files.
    kept: TempDir,
    pools: HashMap<(Source, &'static str), Pool>,
    extras: Vec<Extra>,
}

impl Run<'_> {
    fn measure(&mut self, steps: &mut Steps<'_>) -> Result<(), BenchError> {
        for round in 1..=self.effort.rounds {
            let of = self.effort.rounds;
            steps.next(&format!("round {round} of {of}: the floor"));
            self.floor();
            for &mode in MODES.iter().rev() {
                steps.next(&format!(
                    "round {round} of {of}: the kernel in {}",
                    mode.name()
                ));
                self.guest(mode)?;
                if mode == Mode::Trap {
                    self.fast()?;
                }
            }
        }
        steps.next("booting and closing virtual machines");
        self.lives()?;
        steps.next("whole processes");
        self.processes()?;
        steps.next("an idle guest");
        self.footprint()
    }

    fn micro_rows(&self) -> impl Iterator<Item = &'static MicroRow> {
        micro::ROWS
            .iter()
            .filter(|row| self.options.wants(row.name))
    }

    /// The mechanisms that the wanted rows are divided by, each once.
    fn yardsticks(&self) -> Vec<floor::Row> {
        let mut wanted = Vec::new();
        for row in self.micro_rows() {
            let of_row = MODES
                .iter()
                .filter_map(|mode| row.yardstick(*mode, self.platform));
            for Yardstick { row, .. } in of_row {
                if !wanted.contains(&row) {
                    wanted.push(row);
                }
            }
        }
        let less_tables = [
            life::PROMPT_LESS_TABLES,
            life::KEPT_LESS_TABLES,
            life::LEARNED_LESS_TABLES,
        ];
        let wants_exit = less_tables.iter().any(|name| self.options.wants(name));
        if wants_exit && !wanted.contains(&EXIT_OF_A_FAULT) {
            wanted.push(EXIT_OF_A_FAULT);
        }
        wanted
    }

    fn pool(&mut self, source: Source, row: &'static str) -> &mut Pool {
        self.pools.entry((source, row)).or_default()
    }

    /// A mechanism that this host lacks costs its rows their yardstick, not the run.
    fn floor(&mut self) {
        for row in self.yardsticks() {
            let result = floor::measure(&[row], self.effort.floor, &mut |_| ());
            let pool = self.pool(Source::Floor, row.name());
            match result {
                Ok(samples) => {
                    for (_, sample) in samples {
                        let operations = sample.ticks.len() as f64;
                        pool.add_exits(sample.exits_per_op * operations, operations);
                        pool.cycles
                            .extend(sample.ticks.iter().map(|ticks| *ticks as f64));
                    }
                }
                Err(error) => {
                    pool.missing = Some(Cell::Failed {
                        why: error.to_string(),
                    })
                }
            }
        }
    }

    fn guest(&mut self, mode: Mode) -> Result<(), BenchError> {
        let names: Vec<_> = self.micro_rows().map(|row| row.name).collect();
        if names.is_empty() {
            return Ok(());
        }
        let lines = micro::run(mode, &names, self.effort.samples, None, &self.watch)?.lines;
        for name in names {
            self.add_line(Source::Guest(mode), name, of_row(&lines, name));
        }
        Ok(())
    }

    /// The rows of mode `trap` in which the monitor handles traps by itself.
    fn fast(&mut self) -> Result<(), BenchError> {
        let wanted = micro::FAST_ROWS.iter();
        let wanted: Vec<_> = wanted.filter(|row| self.options.wants(row.name)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut config = micro::kernel(Mode::Trap);
        config.fast_traps = FastTraps::On;
        let names: Vec<_> = wanted.iter().map(|row| row.of).collect();
        let ran = micro::run_as(config, &names, self.effort.samples, None, &self.watch)?;
        for row in wanted {
            self.add_line(
                Source::Guest(Mode::Trap),
                row.name,
                of_row(&ran.lines, row.of),
            );
            for mode in MODES.iter().filter(|mode| **mode != Mode::Trap) {
                self.pool(Source::Guest(*mode), row.name).missing = Some(Cell::Absent);
            }
        }
        Ok(())
    }

    fn add_line(&mut self, source: Source, name: &'static str, outcome: Option<&Outcome>) {
        let pool = self.pool(source, name);
        match outcome {
            Some(Outcome::Measured {
                n, exits, ticks, ..
            }) => {
                let n = *n as f64;
                pool.add_exits(*exits as f64, n * ticks.len() as f64);
                pool.cycles
                    .extend(ticks.iter().map(|ticks| *ticks as f64 / n));
            }
            Some(Outcome::Absent) => pool.missing = Some(Cell::Absent),
            Some(Outcome::Failed(why)) => pool.missing = Some(Cell::Failed { why: why.clone() }),
            None => {
                pool.missing = Some(Cell::Failed {
                    why: "the guest left it out".into(),
                })
            }
        }
    }

    fn add_time(&mut self, source: Source, row: &'static str, took: Duration) {
        let cycles = took.as_nanos() as f64 / self.ns_per_cycle;
        self.pool(source, row).cycles.push(cycles);
    }

    fn lives(&mut self) -> Result<(), BenchError> {
        let names = [
            life::VM_CREATE,
            life::FIRST_INSTRUCTION,
            life::FIRST_BYTE,
            life::SHELL_PROMPT,
            life::PROMPT_LESS_TABLES,
            life::KEPT_PROMPT,
            life::KEPT_LESS_TABLES,
            life::LEARNED_PROMPT,
            life::LEARNED_LESS_TABLES,
            life::BUSY_BOOT,
            life::DECODE,
            life::VM_TEARDOWN,
        ];
        if !names.iter().any(|name| self.options.wants(name)) {
            return Ok(());
        }
        // One more than is counted: the first one of each kind finds everything cold.
        for turn in 0..=self.effort.lives {
            let is_counted = turn > 0;
            thread::sleep(PAUSE);
            self.floor_life(is_counted)?;
            for &mode in MODES {
                thread::sleep(PAUSE);
                self.life(mode, is_counted)?;
            }
        }
        Ok(())
    }

    fn floor_life(&mut self, is_counted: bool) -> Result<(), BenchError> {
        let life = floor::one_byte()?;
        if is_counted {
            let ns = Duration::from_nanos;
            self.add_time(Source::Floor, life::VM_CREATE, ns(life.create_ns));
            self.add_time(
                Source::Floor,
                life::FIRST_INSTRUCTION,
                ns(life.first_byte_ns),
            );
            self.add_time(Source::Floor, life::FIRST_BYTE, ns(life.first_byte_ns));
            self.add_time(Source::Floor, life::VM_TEARDOWN, ns(life.teardown_ns));
        }
        Ok(())
    }

    fn life(&mut self, mode: Mode, is_counted: bool) -> Result<(), BenchError> {
        let phases = life::phases(mode, Known::Nothing, &self.watch)?;
        self.known_lives(mode, is_counted)?;
        let first_instruction = life::first_instruction(mode, &self.watch)?;
        let wants_busy = [life::BUSY_BOOT, life::DECODE].map(|row| self.options.wants(row));
        let busy = match wants_busy.contains(&true) {
            true => Some(life::busy(mode, &self.watch)?),
            false => None,
        };
        if is_counted {
            let source = Source::Guest(mode);
            self.add_time(source, life::VM_CREATE, phases.create);
            self.add_time(source, life::FIRST_INSTRUCTION, first_instruction);
            self.add_time(source, life::FIRST_BYTE, phases.first_byte);
            self.add_time(source, life::VM_TEARDOWN, phases.teardown);
            self.add_prompt(mode, [life::SHELL_PROMPT, life::PROMPT_LESS_TABLES], phases);
            if let Some(busy) = busy {
                self.add_time(source, life::BUSY_BOOT, busy.took);
                self.pool(source, life::BUSY_BOOT)
                    .add_exits(busy.exits as f64, 1.0);
                match busy.decode {
                    Some(took) => self.add_time(source, life::DECODE, took),
                    None => self.pool(source, life::DECODE).missing = Some(Cell::Absent),
                }
            }
        }
        Ok(())
    }

    /// Boot kernels whose code is known from boots before; in modes that know nothing of it, boot them as ever.
    fn known_lives(&mut self, mode: Mode, is_counted: bool) -> Result<(), BenchError> {
        let learned = self.learned.entry(mode).or_default().clone();
        let cache = CodeCache::in_dir(self.kept.path());
        for (rows, known) in [
            (
                [life::KEPT_PROMPT, life::KEPT_LESS_TABLES],
                Known::Kept(&cache),
            ),
            (
                [life::LEARNED_PROMPT, life::LEARNED_LESS_TABLES],
                Known::Learned(&learned),
            ),
        ] {
            if !rows.iter().any(|name| self.options.wants(name)) {
                continue;
            }
            if !is_counted {
                for _ in 0..LESSONS {
                    life::phases(mode, known, &self.watch)?;
                }
            }
            thread::sleep(PAUSE);
            let phases = life::phases(mode, known, &self.watch)?;
            if is_counted {
                self.add_prompt(mode, rows, phases);
            }
        }
        Ok(())
    }

    /// Add a boot to the rows of its whole time and of that less what page tables took.
    fn add_prompt(&mut self, mode: Mode, [whole, less_tables]: [&'static str; 2], phases: Phases) {
        let source = Source::Guest(mode);
        self.add_time(source, whole, phases.prompt);
        self.pool(source, whole).add_exits(phases.exits as f64, 1.0);
        if let Cell::Measured(exit) = self.cell(Source::Floor, EXIT_OF_A_FAULT.name()) {
            let tables = phases.for_tables;
            let tables = tables.total_ns as f64 + tables.count as f64 * exit.ns.p10;
            let rest = phases
                .prompt
                .saturating_sub(Duration::from_nanos(tables as u64));
            self.add_time(source, less_tables, rest);
        }
    }

    fn processes(&mut self) -> Result<(), BenchError> {
        let wants = |name| self.options.wants(name);
        let is_wanted = wants(life::PROCESS_FIRST_BYTE) || wants(life::PROCESS_RUN);
        let Some(path) = self.options.paravane.as_deref().filter(|_| is_wanted) else {
            return Ok(());
        };
        let program = Program::new(path);
        for turn in 0..=self.effort.processes {
            let mut all = vec![(Source::Floor, program.floor(&self.watch)?)];
            for &mode in MODES.iter().rev() {
                all.push((Source::Guest(mode), program.guest(mode, &self.watch)?));
            }
            if turn > 0 {
                for (source, lived) in all {
                    self.add_time(source, life::PROCESS_FIRST_BYTE, lived.first_byte);
                    self.add_time(source, life::PROCESS_RUN, lived.all);
                }
            }
        }
        Ok(())
    }

    fn footprint(&mut self) -> Result<(), BenchError> {
        let wants = |name| self.options.wants(name);
        let is_wanted = wants(life::VMM_MEMORY) || wants(life::IDLE_CPU);
        let found = match self.options.paravane.as_deref().filter(|_| is_wanted) {
            Some(path) => Some(life::footprint(
                path,
                Mode::Pv,
                self.effort.idle,
                &self.watch,
            )?),
            None => None,
        };
        let mebibytes = found.map(|found| found.resident as f64 / f64::from(1 << 20));
        let percent = found.map(|found| found.cpu_percent);
        for (name, value, unit) in [
            (life::VMM_MEMORY, mebibytes, "MiB"),
            (life::IDLE_CPU, percent, "%"),
        ] {
            if self.options.wants(name) {
                let about = life::ROWS
                    .iter()
                    .find(|row| row.name == name)
                    .map_or("", |row| row.about);
                self.extras.push(Extra {
                    name,
                    about,
                    mode: Mode::Pv.name(),
                    value,
                    unit,
                });
            }
        }
        Ok(())
    }

    fn cell(&self, source: Source, row: &'static str) -> Cell {
        let pool = self.pools.get(&(source, row));
        pool.map_or(Cell::NotMeasured, |pool| pool.cell(self.ns_per_cycle))
    }

    fn rows(&self) -> Vec<Row> {
        let micro = self.micro_rows().map(|row| {
            let bare = |mode| {
                let yardstick = row.yardstick(mode, self.platform)?;
                Some(self.bare(yardstick))
            };
            self.row(row.name, row.about, &bare)
        });
        let lives = life::ROWS.iter().filter(|row| {
            let is_time = row.name != life::VMM_MEMORY && row.name != life::IDLE_CPU;
            is_time && self.options.wants(row.name)
        });
        let lives = lives.map(|row| {
            let bare = |_| {
                Some(Bare {
                    mechanism: row.mechanism?.to_owned(),
                    cell: self.cell(Source::Floor, row.name),
                })
            };
            self.row(row.name, row.about, &bare)
        });
        let fast = micro::FAST_ROWS.iter();
        let fast = fast.filter(|row| self.options.wants(row.name));
        let fast = fast.map(|row| self.row(row.name, row.about, &|_| None));
        micro.chain(fast).chain(lives).collect()
    }

    fn row(
        &self,
        name: &'static str,
        about: &'static str,
        bare: &dyn Fn(Mode) -> Option<Bare>,
    ) -> Row {
        let column = |&mode| (mode, self.cell(Source::Guest(mode), name), bare(mode));
        Row::new(name, about, MODES.iter().map(column).collect())
    }

    fn bare(&self, yardstick: Yardstick) -> Bare {
        let mut cell = self.cell(Source::Floor, yardstick.row.name());
        if let Cell::Measured(figure) = &mut cell {
            let times = f64::from(yardstick.times);
            figure.ns = figure.ns.scaled(times);
            figure.cycles = figure.cycles.scaled(times);
            figure.exits_per_op = figure.exits_per_op.map(|exits| exits * times);
        }
        Bare {
            mechanism: yardstick.name(),
            cell,
        }
    }
}

/// What the guest found of a row.
fn of_row<'a>(lines: &'a [Line], name: &str) -> Option<&'a Outcome> {
    let line = lines.iter().find(|line| line.row == name);
    line.map(|line| &line.outcome)
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
