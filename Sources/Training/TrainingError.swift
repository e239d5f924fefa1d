/// Why a run ended early, in words for its user.
package enum TrainingError: Error, Equatable, CustomStringConvertible {
    case nonFinite(step: Int, what: String)
    case tooFewImages(images: Int, needed: Int)
    case batchNotDivisible(global: Int, accumulation: Int, ranks: Int)
    case quarantineLimit(count: Int, limit: Int)
    case notARun(folder: String, reason: String)
    case folderInUse(folder: String)
    case preprocessing(file: String, have: String, need: String)
    case incompatible(String)

    package var description: String {
        switch self {
        case .nonFinite(let step, let what):
            "step \(step): \(what) is not finite; nothing was updated. Lower optimizer.learning_rate, lengthen the "
                + "warm-up, or look at the first bad batch with --overfit"
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
        }
    }
}
