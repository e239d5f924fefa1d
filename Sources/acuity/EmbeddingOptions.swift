import ArgumentParser
import FaceData
import Layers
import Networks
import Telemetry
import Training

extension Precision: ExpressibleByArgument {}

/// How commands send images through a recogniser.
struct EmbeddingOptions: ParsableArguments {
    @Option(help: "Images per pass.")
    var batch = 64

    @Option(help: "Numbers of maps and convolutions: fp32, bf16.")
    var precision = Precision.fp32

    func validate() throws {
        if batch < 1 { throw ValidationError("--batch must be at least 1") }
    }

    func embedder(_ network: Network, _ preprocessing: Preprocessing, _ environment: RunEnvironment) -> Embedder {
        Embedder(network, preprocessing: preprocessing, batch: batch, precision: precision, pool: environment.pool)
    }
}

/// Which images a command goes through that gives each of them something.
struct CollectionOptions: ParsableArguments {
    @Option(help: "The folder that a list's paths are relative to.")
    var folder: String?

    @Option(help: "Degrade on the way in: a side in pixels (16), or a table such as lfw-mixed.tsv.")
    var degrade: String?

    @Flag(help: "Leave out images that cannot be decoded, and name them.")
    var skipDamaged = false

    func open(_ data: String) throws -> ImageCollection {
        try ImageCollection.open(data, folder: folder, degrade: degrade)
    }
}

extension RunEnvironment {
    /// Progress of all ranks, which rank 0 alone shows.
    func progressDisplay(_ total: Int) -> ProgressDisplay {
        ProgressDisplay(total: total, style: isRoot ? progress : .never)
    }
}
