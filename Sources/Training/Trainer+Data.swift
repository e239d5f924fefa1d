import Collectives
import FaceData
import Foundation
import Logging
import Recipes
import Tensors

extension Trainer {
    /// What a rank tells the others about a record it could not read.
    private struct Damage: Codable {
        var record: Int
        var reason: String
    }

    /// Brings together the damaged records that the ranks have found in one step. Rank 0 lists those that are new, in the
    /// order of the data, so that the list does not depend on which rank met them.
    ///
    /// - Parameter known: those of earlier steps.
    /// - Returns: the records that all ranks have found.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    func sharedDamage(_ found: [QuarantinedRecord], known: Set<Int>, step: Int) throws -> [Int] {
        let communicator = environment.communicator
        let own = found.map { Damage(record: $0.record, reason: $0.reason) }
        let gathered = try communicator.gather(coding: own, "damaged records")
        let records = try communicator.together("quarantine") { () -> [Int] in
            guard let gathered else { return [] }
            var reasons: [Int: String] = [:]
            for damage in gathered.joined() { reasons[damage.record] = reasons[damage.record] ?? damage.reason }
            let new = reasons.filter { !known.contains($0.key) }.sorted { $0.key < $1.key }
            try recorder.quarantine(
                new.map { (record: $0.key, key: source.key(of: $0.key), reason: $0.value) }, step: step)
            return new.map(\.key)
        }
        let all = try communicator.broadcast(records.withUnsafeBytes { Array($0) }, root: 0, "damaged records")
        return all.withUnsafeBytes { raw in
            (0..<raw.count / 8).map { raw.loadUnaligned(fromByteOffset: 8 * $0, as: Int.self) }
        }
    }

    /// Says what the run waited for, if it waited for data.
    func adviseOnData(_ times: LoaderTimes) {
        guard environment.isRoot, let share = recorder.dataWaitShare, share > 0.1, let largest = times.shares.first
        else { return }
        let shares = times.shares.filter { $0.share > 0.005 }.map { "\($0.name) \(Int((100 * $0.share).rounded())) %" }
        let advice =
            largest.name == "reading"
            ? "a disk nearer to this host, 'data.shuffle: chunks' or more data.threads"
            : "more data.threads"
        environment.logger.warning(
            """
            the ranks waited for data \(Int((100 * share).rounded())) % of the time: the loader is the bottleneck. Its \
            time: \(shares.joined(separator: ", ")). What may help: \(advice) (now \(recipe.data.threads))
            """)
    }

    /// What the data is made of, and in which order it comes.
    func describeData() {
        let data = recipe.data
        func say(_ text: String) { environment.logger.info("\(text)") }
        say("\(source.location): \(source.count) images of \(source.classCount) identities")
        if data.sources.count > 1 {
            for (section, part) in zip(data.sources, source.parts) {
                let name = section.name ?? FaceSources.name(of: section.path)
                let labels = section.labels.rawValue
                say("source \(name): \(part.records.count) images, weight \(part.weight), labels \(labels)")
            }
        }
        if sampler.slots != source.count || data.sampling == .identities {
            say("\(sampler.slots) images per epoch" + (data.imagesPerIdentity.map { ", \($0) of each identity" } ?? ""))
        }
        if case .chunks(let size, let open) = sampler.shuffle {
            say("shuffled in windows of \(open) chunks of \(size) records")
        }
        for note in source.notes { environment.logger.warning("\(source.location): \(note)") }
    }
}
