//! The macro that turns rows into everything that is derived from them.

/// Declare hypercalls, one row a call, grouped by topic.
///
/// ```
/// hypercall_abi::hypercalls! {
///     /// Calls of a weather station.
///     topic weather {
///         /// The temperature in millikelvin.
///         0x8001 temperature(sensor: u8) -> u64 tier machine in [pv];
///     }
/// }
/// ```
///
/// Each topic becomes a module of that name with
/// - `ROWS`, the rows as data;
/// - `Guest`, a trait whose methods make the calls through any [`Gate`](crate::Gate);
/// - `Host`, a trait with a method for each call that leaves the virtual machine, and
///   `dispatch`, which decodes the registers and calls it;
/// - `calls`, a unit type a row, to register a closure under.
#[macro_export]
macro_rules! hypercalls {
    ($(
        $(#[doc = $topic_doc:literal])*
        topic $topic:ident {
            $(
                $(#[doc = $doc:literal])+
                $number:literal $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:tt
                    tier $tier:ident $(via $slot:ident)? in [$($mode:ident),+] $(twin $twin:literal)? ;
            )+
        }
    )+) => {$(
        $(#[doc = $topic_doc])*
        #[allow(dead_code, unused_imports, clippy::too_many_arguments)]
        pub mod $topic {
            use $crate::{CallError, Frame, Gate, GuestMemory, GuestPhys, GuestPtr, GuestVirt, Vector, Word};

            /// The rows of this topic.
            pub static ROWS: &[$crate::Row] = &[$(
                $crate::Row {
                    number: $number,
                    name: stringify!($name),
                    topic: stringify!($topic),
                    args: &[$((stringify!($arg), stringify!($ty))),*],
                    result: stringify!($ret),
                    tier: $crate::__tier!($tier),
                    slot: $crate::__slot!($tier $($slot)?),
                    modes: &[$($crate::__mode!($mode)),+],
                    twin: $crate::__option!($($twin)?),
                    doc: concat!($($doc, "\n"),+),
                }
            ),+];

            /// The calls of this topic, from the guest's side.
            pub trait Guest: Gate {
                $(
                    $(#[doc = $doc])+
                    #[doc = ""]
                    #[doc = "# Errors"]
                    #[doc = "The [`CallError`] that the other side returns."]
                    #[inline(always)]
                    fn $name(&self $(, $arg: $ty)*) -> Result<$ret, CallError> {
                        #[allow(unused_mut)]
                        let mut args = [0u64; 6];
                        let _free = args.as_mut_slice();
                        $(let _free = $crate::__put(_free, Word::into_word($arg));)*
                        let word = Gate::call(self, $crate::__slot!($tier $($slot)?), $number, args);
                        $crate::error::decode_result(word).and_then(Word::from_word)
                    }
                )+
            }

            impl<G: Gate + ?Sized> Guest for G {}

            /// The calls of this topic that leave the virtual machine, from the host's side.
            pub trait Host {
                $($crate::__host_method! { $tier
                    $(#[doc = $doc])+
                    #[doc = ""]
                    #[doc = "# Errors"]
                    #[doc = "The [`CallError`] that the guest shall see."]
                    fn $name(&mut self, memory: &dyn GuestMemory $(, $arg: $ty)*) -> Result<$ret, CallError>;
                })+
            }

            /// Decode a call of this topic and make it; `None` when no row here leaves the machine
            /// under this number.
            pub fn dispatch<H: Host + ?Sized>(
                host: &mut H, memory: &dyn GuestMemory, number: u64, args: &$crate::Args,
            ) -> Option<Result<u64, CallError>> {
                let _ = (&host, &memory, args);
                $($crate::__host_arm! { $tier
                    if number == $number {
                        let mut call = || -> Result<u64, CallError> {
                            let _words = args.iter().copied();
                            let mut _words = _words;
                            $(let $arg = <$ty as Word>::from_word($crate::__take(&mut _words))?;)*
                            host.$name(memory $(, $arg)*).map(Word::into_word)
                        };
                        return Some(call());
                    }
                })+
                let _ = number;
                None
            }

            /// A unit type for each row, to register a typed handler under.
            #[allow(non_camel_case_types)]
            pub mod calls {
                use super::*;
                $(
                    $(#[doc = $doc])+
                    #[derive(Clone, Copy, Debug)]
                    pub struct $name;

                    impl $crate::TypedCall for $name {
                        type Args = ($($ty,)*);
                        type Ret = $ret;
                        const ROW: &'static $crate::Row = $crate::__find(ROWS, $number);
                        fn args(words: &$crate::Args) -> Result<Self::Args, CallError> {
                            let mut _words = words.iter().copied();
                            Ok(($(<$ty as Word>::from_word($crate::__take(&mut _words))?,)*))
                        }
                    }
                )+
            }
        }
    )+};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tier {
    (monitor) => {
        $crate::Tier::Monitor
    };
    (machine) => {
        $crate::Tier::Machine
    };
    (batch) => {
        $crate::Tier::Batch
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __slot {
    (monitor) => {
        $crate::Slot::Monitor
    };
    (machine) => {
        $crate::Slot::Machine
    };
    (batch) => {
        $crate::Slot::Batch
    };
    ($tier:ident eoi) => {
        $crate::Slot::Eoi
    };
    ($tier:ident arm_timer) => {
        $crate::Slot::ArmTimer
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __mode {
    (hvm) => {
        $crate::Mode::Hvm
    };
    (trap) => {
        $crate::Mode::Trap
    };
    (patch) => {
        $crate::Mode::Patch
    };
    (pv) => {
        $crate::Mode::Pv
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __option {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

/// A call that stays in the virtual machine has no method on the host.
#[doc(hidden)]
#[macro_export]
macro_rules! __host_method {
    (monitor $($method:tt)*) => {};
    ($tier:ident $($method:tt)*) => { $($method)* };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __host_arm {
    (monitor $($arm:tt)*) => {};
    ($tier:ident $($arm:tt)*) => { $($arm)* };
}
