package import Tensors

/// Makes an image file of each of many, on several threads. Files that are there already stay, so that a conversion that
/// was ended goes on where it was.
package struct ImageConversion: Sendable {
    package struct Job: Sendable {
        /// Where the original lies.
        package let path: String
        /// Its name in the output folder, with whatever extension it had.
        package let name: String

        package init(path: String, name: String) {
            self.path = path
            self.name = name
        }
    }

    package struct Summary: Sendable {
        package var written = 0
        /// There already.
        package var kept = 0
        /// Originals that could not be read or converted, in the order of the jobs.
        package var failures: [FaceDataError] = []
    }

    package var folder: String
    /// JPEG quality (4:2:0); PNG where nil.
    package var quality: Int?
    package var overwrites: Bool
    package var threads: Int
    package var limits = ImageLimits()

    package init(to folder: String, quality: Int? = nil, overwrites: Bool = false, threads: Int = 1) {
        precondition(threads > 0, "\(threads) threads")
        self.folder = folder
        self.quality = quality
        self.overwrites = overwrites
        self.threads = threads
    }

    /// A name with the extension of what is written.
    package func outputName(_ name: String) -> String {
        let slash = name.lastIndex(of: "/").map { name.index(after: $0) } ?? name.startIndex
        let dot = name[slash...].lastIndex(of: ".") ?? name.endIndex
        return name[..<(dot == slash ? name.endIndex : dot)] + (quality == nil ? ".png" : ".jpg")
    }

    /// - Parameters:
    ///   - convert: makes the image of a job; on several threads at once.
    ///   - progress: how many jobs are done; on the caller's thread.
    /// - Throws: when two jobs have one output, or the disk refuses to be written; jobs done before stay.
    package func run(
        _ jobs: [Job],
        _ convert: @escaping @Sendable (_ job: Int, RGBImage, ImageScratch) throws(FaceDataError) -> RGBImage,
        progress: (Int) -> Void = { _ in }
    ) throws(FaceDataError) -> Summary {
        try makeFolders(jobs)
        let board = Board(count: jobs.count)
        let workers = (0..<min(threads, max(1, jobs.count))).map { _ in
            SystemThread(name: "images") {
                let scratch = ImageScratch()
                while let job = board.claim() {
                    board.finish(job, outcome(of: jobs[job], number: job, convert, scratch))
                }
            }
        }
        var done = 0
        while let now = board.wait(after: done) {
            done = now
            progress(now)
        }
        for worker in workers { worker.join() }
        return try board.summary()
    }

    private func outcome(
        of job: Job, number: Int, _ convert: (Int, RGBImage, ImageScratch) throws(FaceDataError) -> RGBImage,
        _ scratch: ImageScratch
    ) -> Outcome {
        let target = folder + "/" + outputName(job.name)
        if !overwrites, Folder.kind(target) == .file { return .kept }
        let bytes: [UInt8]
        do throws(FaceDataError) {
            let image = try convert(number, read(job.path), scratch)
            bytes = try encoded(image, target)
        } catch {
            return .failed(error)
        }
        do throws(FaceDataError) {
            let writer = try FileWriter(target)
            try writer.append(bytes)
            try writer.finish(isDurable: false)
            return .written
        } catch {
            return .stopped(error)
        }
    }

    private func read(_ path: String) throws(FaceDataError) -> RGBImage {
        let bytes = try DataFile(path).contents(limit: limits.encodedBytes)
        do throws(ImageError) {
            return try ImageCodec.decode(bytes, limits: limits)
        } catch {
            throw FaceDataError(error, file: path)
        }
    }

    private func encoded(_ image: RGBImage, _ path: String) throws(FaceDataError) -> [UInt8] {
        do throws(ImageError) {
            if let quality { return try ImageCodec.encodeJPEG(image, quality: quality) }
            return try ImageCodec.encodePNG(image)
        } catch {
            throw FaceDataError(error, file: path)
        }
    }

    private func makeFolders(_ jobs: [Job]) throws(FaceDataError) {
        var owners: [String: String] = [:]
        var folders: Set<String> = [folder]
        for job in jobs {
            let name = outputName(job.name)
            if let other = owners.updateValue(job.name, forKey: name) {
                throw FaceDataError(
                    .malformed, file: folder + "/" + name, "\(other) and \(job.name) would both become this file",
                    advice: "rename one of them")
            }
            if name.contains("/") { folders.insert(Folder.parent(of: folder + "/" + name)) }
        }
        for path in folders.sorted() { try Folder.make(path) }
    }
}

private enum Outcome: Sendable {
    case written, kept
    case failed(FaceDataError)
    /// Nothing can be written any more.
    case stopped(FaceDataError)
}

/// Which jobs are taken, and how they ended.
private final class Board: @unchecked Sendable {
    private let monitor = Monitor()
    private let count: Int
    private var claimed = 0
    private var outcomes: [Int: Outcome] = [:]
    private var stop: FaceDataError?

    init(count: Int) { self.count = count }

    func claim() -> Int? {
        monitor.withLock {
            guard stop == nil, claimed < count else { return nil }
            defer { claimed += 1 }
            return claimed
        }
    }

    func finish(_ job: Int, _ outcome: Outcome) {
        monitor.withLock {
            outcomes[job] = outcome
            if case .stopped(let error) = outcome { stop = stop ?? error }
            monitor.wakeAll()
        }
    }

    /// Waits until more than `done` jobs have ended; nil when no more will.
    func wait(after done: Int) -> Int? {
        monitor.withLock {
            while true {
                if outcomes.count > done { return outcomes.count }
                if stop != nil || outcomes.count == count { return nil }
                monitor.wait()
            }
        }
    }

    /// - Throws: what stopped the work.
    func summary() throws(FaceDataError) -> ImageConversion.Summary {
        if let stop { throw stop }
        var summary = ImageConversion.Summary()
        for job in 0..<count {
            switch outcomes[job] {
            case .written: summary.written += 1
            case .kept: summary.kept += 1
            case .failed(let error), .stopped(let error): summary.failures.append(error)
            case nil: preconditionFailure("job \(job) was left out")
            }
        }
        return summary
    }
}
