//! This processor's shared page.

use hypercall_abi::layout;
use hypercall_abi::shared::SharedPage;

/// This processor's shared page.
#[inline(always)]
pub fn shared_page() -> &'static SharedPage {
    // SAFETY: the monitor maps the page at this address in every kernel root for the life of the
    // virtual machine, and every field is atomic.
    unsafe { &*((layout::vcpu_area(0) + layout::AREA_SHARED) as *const SharedPage) }
}
