/// Why a run ended early, in words for its user.
package enum TrainingError: Error, Equatable, CustomStringConvertible {
    case nonFinite(step: Int, what: String)
    /// The loss is more than `factor` times the median of those before.
    case spike(step: Int, loss: Double, median: Double, factor: Double)
    /// A policy for such updates has come to its end.
    case policyExhausted(String)
    /// The ranks do not have what they must share.
    case inconsistent(String)
    case tooFewImages(images: Int, needed: Int)
    case batchNotDivisible(global: Int, accumulation: Int, ranks: Int)
    case quarantineLimit(count: Int, limit: Int)
    case notARun(folder: String, reason: String)
    case folderInUse(folder: String)
    case preprocessing(file: String, have: String, need: String)
    case incompatible(String)
    /// Asked to stop by a signal before there was anything to save.
    case interrupted(String)

    package var description: String {
        switch self {
        case .nonFinite(let step, let what):
            "step \(step): \(what) is not finite; nothing was updated. Lower optimizer.learning_rate, lengthen the "
                + "warm-up, or look at the first bad batch with --overfit"
        case .spike(let step, let loss, let median, let factor):
            "step \(step): the loss, \(loss), is more than \(factor) times the median of the last ones, \(median); nothing was "
                + "updated. Lower optimizer.learning_rate, raise stability.spike_factor, or choose another stability.policy"
        case .policyExhausted(let text), .inconsistent(let text): text
        case .tooFewImages(let images, let needed):
            "\(images) images do not fill one global batch of \(needed); lower batch.global or add data"
        case .batchNotDivisible(let global, let accumulation, let ranks):
            "batch.global = \(global) does not split into \(accumulation) passes over \(ranks) ranks; choose a multiple of "
                + "\(accumulation * ranks)"
        case .quarantineLimit(let count, let limit):
            "\(count) records could not be read, more than data.quarantine_limit = \(limit); see quarantine.jsonl in the "
                + "run folder"
        case .notARun(let folder, let reason): "\(folder) is not a run to resume: \(reason)"
        case .folderInUse(let folder):
            "\(folder) already holds a run; resume it with 'acuity resume \(folder)', or choose another run.folder"
        case .preprocessing(let file, let have, let need):
            "\(file) was trained with \(have), but here it would get \(need); match the recipe to the weights"
        case .incompatible(let text): text
        case .interrupted(let what): "stopped by a signal: \(what); run again"
        }
    }
}
