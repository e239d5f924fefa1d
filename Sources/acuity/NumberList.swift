import ArgumentParser
import FaceData

/// Whole numbers as an option: `112,16,8`, `1-5`.
struct NumberList: ExpressibleByArgument {
    let values: [Int]

    init?(argument: String) {
        guard let values = NumberRanges.parse(argument) else { return nil }
        self.values = values
    }

    var defaultValueDescription: String { NumberRanges.text(values) }
}

/// Rates as an option: `0.01,0.001`.
struct RateList: ExpressibleByArgument {
    let values: [Double]

    init?(argument: String) {
        let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard values.allSatisfy({ $0.map { $0 > 0 && $0 < 1 } ?? false }) else { return nil }
        self.values = values.compactMap(\.self)
    }
}

/// Rows of words under one another, right-aligned.
enum TextTable {
    static func lines(_ rows: [[String]], indent: String = "  ") -> [String] {
        var widths: [Int] = []
        for row in rows {
            for (column, word) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], word.count)
            }
        }
        return rows.map { row -> String in
            let words = zip(row, widths).map { word, width -> String in
                String(repeating: " ", count: width - word.count) + word
            }
            return indent + words.joined(separator: "  ")
        }
    }
}
