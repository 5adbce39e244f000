//! What the readers refuse, case by case, and that no damage at all gets past them.

mod backtrace;
mod builder;
mod elf_header;
mod elf_layout;
mod elf_segment;
mod fit;
mod format;
mod hostile;
mod initrd;
mod symbols;
mod symbols_real;
