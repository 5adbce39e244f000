//! The declaration that guest and host share.
#![no_std]

hypercall_abi::hypercalls! {
    /// A greeter: the example of a vendor's topic.
    topic greeter {
        /// Greet somebody by name, and return how many were greeted so far.
        0x8001 greet(name: GuestPtr<u8>, len: u8) -> u64 tier machine in [pv];
    }
}
