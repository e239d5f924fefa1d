import ArgumentParser
import FaceData
import Telemetry
import Tensors
import Training

/// What commands take that make an image of each image.
struct ImageConversionOptions: ParsableArguments {
    @Option(help: "The folder that receives the images under their own names.")
    var output: String

    @Option(help: "Write JPEG of this quality, 1 to 100, in place of PNG.")
    var quality: Int?

    @OptionGroup var workers: ThreadOptions

    @Flag(help: "Make files again that are there already.")
    var force = false

    @Flag(help: "End with code 0 although some images could not be used; they are named all the same.")
    var skipDamaged = false

    func validate() throws {
        if let quality, !(1...100).contains(quality) { throw ValidationError("--quality must lie in 1...100") }
        if output.isEmpty { throw ValidationError("--output must name a folder") }
    }

    var conversion: ImageConversion {
        ImageConversion(to: output, quality: quality, overwrites: force, threads: workers.count)
    }

    /// Runs jobs, names what failed before and now, prints the counts.
    ///
    /// - Parameters:
    ///   - failures: of rows that did not become jobs.
    ///   - verb: for the progress bar.
    /// - Throws: `ExitCodeRequest` when anything failed, unless that is allowed.
    func run(
        _ jobs: [ImageConversion.Job], failures: [FaceDataError] = [], verb: String,
        _ convert: @escaping @Sendable (Int, RGBImage, ImageScratch) throws(FaceDataError) -> RGBImage,
        then: (ImageConversion.Summary) throws -> Void = { _ in }
    ) throws {
        let progress = ProgressDisplay(total: jobs.count)
        let summary = try conversion.run(jobs, convert) { progress.update($0, verb) }
        progress.finish()
        let failed = failures + summary.failures
        for failure in failed { Session.warn("left out \(failure)") }
        try then(summary)
        print("\(output): \(summary.written) written, \(summary.kept) there already, \(failed.count) left out")
        if !failed.isEmpty, !skipDamaged { throw ExitCodeRequest(code: Training.ExitCode.badData) }
    }
}
