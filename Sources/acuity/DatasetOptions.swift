import ArgumentParser
import FaceData
import Foundation
import Telemetry
import Tensors

/// The threads of a command without ranks.
struct ThreadOptions: ParsableArguments {
    @Option(help: "Threads; by default the processors of the affinity mask.")
    var threads: Int?

    func validate() throws {
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must lie in 1...4096") }
    }

    var count: Int { threads ?? ThreadPool.availableProcessors }
}

/// What the commands take that walk over a data set.
struct DatasetOptions: ParsableArguments {
    @OptionGroup var workers: ThreadOptions

    @Option(help: "How progress is shown: auto, bar, lines, never.")
    var progress: ProgressStyle = .auto

    var threadCount: Int { workers.count }
}

/// Progress of work in one or several parts: a bar on a terminal, otherwise a line every ten seconds, with rate and time
/// left.
final class WorkProgress {
    private let style: ProgressStyle
    private let writesLines: Bool
    private var display: ProgressDisplay?
    private var what = ""
    private var total = 0
    private var first = 0
    private var start = 0.0
    private var lastLine = 0.0

    init(_ style: ProgressStyle) {
        self.style = style
        writesLines = style == .lines || (style == .auto && isatty(2) == 0)
    }

    func update(_ what: String, _ done: Int, of total: Int) {
        if what != self.what || total != self.total {
            finish()
            (self.what, self.total, first) = (what, total, done)
            (start, lastLine) = (ProgressDisplay.now, ProgressDisplay.now)
            display = ProgressDisplay(total: total, first: done, style: style)
        }
        guard let display else { return }
        display.update(done, "\(what), \(rate(done))")
        let now = ProgressDisplay.now
        guard writesLines, now - lastLine >= 10 else { return }
        lastLine = now
        display.line("\(what) \(done)/\(total), \(rate(done)), \(display.remaining(done))")
    }

    func finish() {
        display?.finish()
        display = nil
        what = ""
    }

    private func rate(_ done: Int) -> String {
        let seconds = ProgressDisplay.now - start
        return seconds > 0 ? "\(Int(Double(done - first) / seconds))/s" : "0/s"
    }
}
