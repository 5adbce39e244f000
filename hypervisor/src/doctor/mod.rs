//! Says what this host's KVM can do, and how to mend what it cannot.
