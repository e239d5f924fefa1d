/// Whole numbers in a few characters: `1-5,8`.
package enum NumberRanges {
    private static let most = 100_000

    /// The numbers of a text in the order in which it gives them: numbers and ranges `low-high`, separated by commas.
    ///
    /// - Returns: nil for any other text, and for more than 100,000 numbers.
    package static func parse(_ text: String) -> [Int]? {
        var values: [Int] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { number($0) }
            guard let low = ends[0], let high = ends[ends.count - 1], ends.count <= 2, low <= high,
                high - low < most - values.count
            else { return nil }
            values += Array(low...high)
        }
        return values
    }

    /// Digits, and no more of them than a count needs.
    private static func number(_ digits: Substring) -> Int? {
        guard (1...9).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(digits)
    }

    /// The shortest text of some numbers, ascending: `1-5,8`.
    package static func text(_ values: some Sequence<Int>) -> String {
        var runs: [ClosedRange<Int>] = []
        for value in Set(values).sorted() {
            if let last = runs.last, last.upperBound + 1 == value {
                runs[runs.count - 1] = last.lowerBound...value
            } else {
                runs.append(value...value)
            }
        }
        return runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }
}
