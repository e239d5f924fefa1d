import CKernels

/// Names the calling thread, for `top -H`, profilers and debuggers; the system keeps 15 bytes.
package func nameThread(_ name: String) { ak_name_thread(name) }
