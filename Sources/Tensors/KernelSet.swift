import CKernels

/// The instruction set that the kernels use.
package enum KernelSet {
    /// Chosen at first use: ACUITY_ISA from the environment if this machine has it, else the best.
    package static var current: String { String(cString: ak_isa_name(ak_isa_current())) }
    package static var best: String { String(cString: ak_isa_name(ak_isa_best())) }
}
