import Artifacts
import Collectives
import Evaluation
import FaceData
import Networks
import Objectives
import Recipes
import Telemetry
import Tensors

/// The program's exit codes (after sysexits.h).
package enum ExitCode {
    package static let success: Int32 = 0
    package static let usage: Int32 = 64
    package static let badData: Int32 = 65
    package static let missingInput: Int32 = 66
    package static let peerLost: Int32 = 69
    package static let internalError: Int32 = 70
    package static let cannotWrite: Int32 = 73
    package static let inputOutput: Int32 = 74
    /// Stopped by a signal after saving: run again.
    package static let tryAgain: Int32 = 75
    package static let nonFinite: Int32 = 76

    /// The code that an error ends the program with.
    package static func of(_ error: any Error) -> Int32 {
        switch error {
        case let error as RunFailure: error.exitCode
        case let error as RecipeError:
            if case .unreadable = error { missingInput } else { badData }
        case let error as FaceDataError:
            switch error.kind {
            case .missing: missingInput
            case .denied, .cannotRead: inputOutput
            case .cannotWrite: cannotWrite
            case .malformed, .unsupported, .tooLarge: badData
            }
        case let error as ArtifactError:
            switch error {
            case .missing: missingInput
            case .cannotWrite, .locked: cannotWrite
            case .cannotRead: inputOutput
            case .damaged, .incompatible: badData
            }
        case let error as MappedFileError: error.isRefusal ? cannotWrite : inputOutput
        case is CollectiveError: peerLost
        case is RunLogError: cannotWrite
        case let error as TrainingError:
            switch error {
            case .nonFinite, .spike, .policyExhausted: nonFinite
            case .inconsistent: internalError
            case .notARun: missingInput
            case .folderInUse: cannotWrite
            case .interrupted: tryAgain
            case .tooFewImages, .batchNotDivisible, .quarantineLimit, .preprocessing, .incompatible: badData
            }
        case is NetworkError, is EvaluationError, is SamplerError, is ClassificationError, is ObjectiveStateError,
            is ImageError:
            badData
        default: internalError
        }
    }
}
