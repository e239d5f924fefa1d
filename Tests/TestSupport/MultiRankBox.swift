internal import Tensors

/// A value that several ranks of a test change.
package final class Box<Value>: @unchecked Sendable {
    private let monitor = Monitor()
    private var stored: Value

    package init(_ value: Value) { stored = value }

    package var value: Value { monitor.withLock { stored } }

    package func update(_ body: (inout Value) -> Void) { monitor.withLock { body(&stored) } }
}
