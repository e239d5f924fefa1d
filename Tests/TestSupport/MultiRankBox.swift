internal import Synchronization

/// A value that several ranks of a test change.
package final class Box<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>

    package init(_ value: Value) { mutex = Mutex(value) }

    package var value: Value { mutex.withLock { $0 } }

    package func update(_ body: (inout Value) -> Void) { mutex.withLock { body(&$0) } }
}
