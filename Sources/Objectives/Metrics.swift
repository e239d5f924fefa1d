/// A few numbers by name, in the order in which they were added. They lie in the value itself: every step makes some
/// anew and must allocate nothing.
package struct Metrics: Sendable, Equatable {
    private struct Metric {
        var name: StaticString
        var value: Double
    }

    private static var room: Int { 24 }
    private var storage = InlineArray<24, Metric>(repeating: Metric(name: "", value: 0))
    package private(set) var count = 0

    package init() {}

    /// Adds a number, or adds to the one of that name.
    package mutating func add(_ name: StaticString, _ value: Double) {
        for index in 0..<count where Self.same(storage[index].name, name) {
            storage[index].value += value
            return
        }
        precondition(count < Self.room, "more than \(Self.room) metrics")
        storage[count] = Metric(name: name, value: value)
        count += 1
    }

    /// Adds 1/count of each number of `other`: for means over micro-batches, over steps, and over ranks.
    package mutating func add(_ other: Self, of count: Int = 1) {
        for index in 0..<other.count { add(other.storage[index].name, other.storage[index].value / Double(count)) }
    }

    package subscript(name: String) -> Double? {
        for index in 0..<count where storage[index].name.description == name { return storage[index].value }
        return nil
    }

    /// For logs and tests.
    package var named: [(name: String, value: Double)] {
        (0..<count).map { (storage[$0].name.description, storage[$0].value) }
    }

    package static func == (a: Self, b: Self) -> Bool {
        guard a.count == b.count else { return false }
        return (0..<a.count).allSatisfy {
            same(a.storage[$0].name, b.storage[$0].name) && a.storage[$0].value == b.storage[$0].value
        }
    }

    private static func same(_ a: StaticString, _ b: StaticString) -> Bool {
        guard a.utf8CodeUnitCount == b.utf8CodeUnitCount else { return false }
        if a.utf8Start == b.utf8Start { return true }
        return (0..<a.utf8CodeUnitCount).allSatisfy { a.utf8Start[$0] == b.utf8Start[$0] }
    }
}
