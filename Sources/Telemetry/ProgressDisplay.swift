import Foundation

/// When progress is drawn as a bar that redraws itself.
package enum ProgressStyle: String, Sendable, CaseIterable {
    /// A bar on a terminal, lines otherwise.
    case auto
    case bar
    case lines
    case never
}

/// Shows how far a long job is, on standard error: one line redrawn at most five times a second on a terminal, plain
/// lines otherwise.
package final class ProgressDisplay {
    private let isBar: Bool
    private let isSilent: Bool
    private let total: Int
    private let start: Double
    private let first: Int
    private var lastDrawn = 0.0
    private var width = 0

    /// - Parameters:
    ///   - total: steps in all.
    ///   - first: steps done before (a resumed run).
    package init(total: Int, first: Int = 0, style: ProgressStyle = .auto) {
        self.total = total
        self.first = first
        start = Self.now
        isSilent = style == .never
        let isTerminal = isatty(2) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
        isBar = style == .bar || (style == .auto && isTerminal)
    }

    package static var now: Double { ProcessInfo.processInfo.systemUptime }

    /// Redraws the bar; does nothing where there is none.
    package func update(_ done: Int, _ detail: @autoclosure () -> String) {
        guard isBar, !isSilent else { return }
        let now = Self.now
        guard now - lastDrawn >= 0.2 || done == total else { return }
        lastDrawn = now
        let share = total > 0 ? min(1, Double(done) / Double(total)) : 1
        let filled = Int(share * 24)
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
        let line = "\(bar) \(done)/\(total)  \(detail())  \(remaining(done))"
        emit("\r" + line + String(repeating: " ", count: max(0, width - line.count)))
        width = line.count
    }

    /// A line that stays; the bar is drawn below it.
    package func line(_ text: String) {
        guard !isSilent else { return }
        if isBar, width > 0 {
            emit("\r" + String(repeating: " ", count: width) + "\r")
            width = 0
        }
        emit(text + "\n")
    }

    /// Ends the bar's line.
    package func finish() {
        if isBar, !isSilent, width > 0 { emit("\n") }
        width = 0
    }

    /// "12 min left", from the rate since the start.
    package func remaining(_ done: Int) -> String {
        guard done > first, total > done else { return "" }
        let seconds = (Self.now - start) / Double(done - first) * Double(total - done)
        return Self.duration(seconds) + " left"
    }

    package static func duration(_ seconds: Double) -> String {
        guard seconds < 3.6e9 else { return "more than 1000000 h" }
        return switch seconds {
        case ..<90: "\(Int(seconds.rounded())) s"
        case ..<5400: "\(Int((seconds / 60).rounded())) min"
        default: "\(Int(seconds / 3600)) h \(Int(seconds / 60) % 60) min"
        }
    }

    private func emit(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
