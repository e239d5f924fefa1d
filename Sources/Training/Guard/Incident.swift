import Artifacts
package import Foundation
import Telemetry

/// An update that was refused, kept so that it can be looked into: `RUN/incidents/step-N/`.
///
/// - `incident.json`: this;
/// - `recipe.yaml`: the run's recipe;
/// - `model.safetensors`: the backbone as it was before the update, with the running statistics of rank 0;
/// - `rank-R.safetensors`: what rank R computed with: for each pass M `images/M`, `embeddings/M` and `gradient/M`, the
///   gradient of the embeddings as the objective gave it when it was computed once more.
///
/// Class centres are not in it, which may be many times as large; the checkpoint that `checkpoint` names has them as of its
/// step.
package struct Incident: Codable, Sendable, Equatable {
    package static let file = "incident.json"
    package static let recipeFile = "recipe.yaml"
    package static let modelFile = "model.safetensors"
    package static let schema = 1

    /// A parameter's gradient, summed over the ranks.
    package struct GradientNorm: Codable, Sendable, Equatable {
        package var name: String
        package var norm: Double
    }

    /// What one rank had.
    package struct Share: Codable, Sendable, Equatable {
        package var rank: Int
        package var host: String
        /// By pass: labels of the records, and the records of all views.
        package var labels: [[Int]]
        package var records: [[Int]]
        package var keys: [[String]]
        /// The first of the rank's class centres that is not finite.
        package var badCentre: Int?
    }

    package var schema = Incident.schema
    /// The update, counted from 1.
    package var step: Int
    /// Images that all ranks had consumed before it.
    package var position: Int
    package var reason: String
    package var loss: Double
    package var gradientNorm: Double
    package var learningRate: Double
    package var seed: UInt64
    package var ranks: Int
    package var passes: Int
    /// Records of a rank in a pass.
    package var batch: Int
    package var policy: String
    /// The last checkpoint, and the updates since then; nil where there is none.
    package var checkpoint: String?
    package var stepsSinceCheckpoint: Int?
    package var gradients: [GradientNorm]
    package var shares: [Share]

    package static func rankFile(_ rank: Int) -> String { "rank-\(rank).safetensors" }
    package static func images(_ pass: Int) -> String { "images/\(pass)" }
    package static func embeddings(_ pass: Int) -> String { "embeddings/\(pass)" }
    package static func gradient(_ pass: Int) -> String { "gradient/\(pass)" }

    /// JSON knows no NaN: such numbers are texts.
    private static let words = (infinity: "inf", negative: "-inf", nan: "nan")

    package func encoded() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: Self.words.infinity, negativeInfinity: Self.words.negative, nan: Self.words.nan)
        return try encoder.encode(self)
    }

    /// Reads the description of a bundle.
    ///
    /// - Throws: `ArtifactError`.
    package init(folder: String) throws {
        let path = folder + "/" + Self.file
        guard FileManager.default.fileExists(atPath: path) else {
            throw ArtifactError.missing(path: path, reason: "there is no such file: name the folder of an incident")
        }
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: Self.words.infinity, negativeInfinity: Self.words.negative, nan: Self.words.nan)
        do {
            self = try decoder.decode(Incident.self, from: Data(contentsOf: URL(filePath: path)))
        } catch let error as DecodingError {
            throw ArtifactError.damaged(path: path, reason: "it does not describe an incident: \(error)")
        } catch {
            throw ArtifactError.damaged(path: path, reason: systemReason(error))
        }
        guard schema == Self.schema else {
            throw ArtifactError.incompatible(path: path, reason: "schema \(schema), this program reads \(Self.schema)")
        }
    }

    package init(
        step: Int, position: Int, reason: String, loss: Double, gradientNorm: Double, learningRate: Double,
        seed: UInt64,
        ranks: Int, passes: Int, batch: Int, policy: String, checkpoint: String?, stepsSinceCheckpoint: Int?,
        gradients: [GradientNorm], shares: [Share]
    ) {
        self.step = step
        self.position = position
        self.reason = reason
        self.loss = loss
        self.gradientNorm = gradientNorm
        self.learningRate = learningRate
        self.seed = seed
        self.ranks = ranks
        self.passes = passes
        self.batch = batch
        self.policy = policy
        self.checkpoint = checkpoint
        self.stepsSinceCheckpoint = stepsSinceCheckpoint
        self.gradients = gradients
        self.shares = shares
    }
}
