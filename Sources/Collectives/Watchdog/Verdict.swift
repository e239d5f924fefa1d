/// What rank 0 makes of all ranks' positions: who is behind.
package enum Verdict {
    /// What rank 0 knows of one rank.
    package struct Standing: Sendable, Equatable {
        /// The last that was heard; nil where nothing ever was.
        package var position: Position?
        /// Seconds since then.
        package var silence: Double

        package init(position: Position?, silence: Double) {
            self.position = position
            self.silence = silence
        }
    }

    /// More lines than this help nobody.
    private static let mostPositions = 64

    /// - Parameters:
    ///   - standings: by rank.
    ///   - silentAfter: seconds after which a rank that was heard counts as gone.
    /// - Returns: lines to print, the conclusion first.
    package static func lines(_ standings: [Standing], silentAfter: Double) -> [String] {
        var lines: [String] = []
        let known = standings.compactMap(\.position)
        let gone = standings.filter { $0.position != nil && $0.silence > silentAfter }
        for standing in gone {
            guard let position = standing.position else { continue }
            lines.append(
                "no word from rank \(position.rank) on \(position.host) for \(tenths(standing.silence)) s: its process or "
                    + "its host is gone, stopped or cut off; it was at step \(position.step), phase \(position.phase.name)"
            )
        }
        let heard = standings.filter { $0.silence <= silentAfter }.compactMap(\.position)
        if gone.isEmpty { lines += conclusion(heard) }
        let unheard = standings.indices.filter { standings[$0].position == nil }
        if !unheard.isEmpty {
            lines.append(
                "never heard of rank(s) \(list(unheard)): gone before the first word, or UDP between the hosts is blocked"
            )
        }
        for position in known.prefix(mostPositions) { lines.append(position.description) }
        if known.count > mostPositions { lines.append("… and \(known.count - mostPositions) more") }
        return lines
    }

    /// Who is behind among ranks that all talk.
    private static func conclusion(_ positions: [Position]) -> [String] {
        let waiting = positions.filter { $0.waiting != nil }
        let busy = positions.filter { $0.waiting == nil }
        guard let one = waiting.max(by: { ($0.waiting?.seconds ?? 0) < ($1.waiting?.seconds ?? 0) }),
            let collective = one.waiting
        else { return ["no rank waits in a collective any more"] }
        if collective.isBehind { return behindTheSteps(collective.label, positions) }
        if !busy.isEmpty {
            return busy.map {
                "rank \($0.rank) on \($0.host) is behind: at step \($0.step), phase \($0.phase.name), it is in no collective; "
                    + "rank(s) \(list(waiting.map(\.rank))) wait for it in '\(collective.label)'"
            }
        }
        let steps = positions.map(\.step)
        if let first = steps.min(), let last = steps.max(), first < last {
            let late = positions.filter { $0.step == first }
            return late.map {
                "rank \($0.rank) on \($0.host) is behind: at step \($0.step) in '\($0.waiting?.label ?? "")', others are at "
                    + "step \(last)"
            }
        }
        var ranks: [String: [Int]] = [:]
        for position in positions { ranks[position.waiting?.label ?? "", default: []].append(position.rank) }
        guard ranks.count > 1 else {
            return [stuck(in: collective.label)]
        }
        return [differing(ranks)]
    }

    /// Behind the steps each rank may be at another one: what counts is who is not there.
    private static func behindTheSteps(_ label: String, _ positions: [Position]) -> [String] {
        let absent = positions.filter { !$0.isInBehind }
        guard absent.isEmpty else {
            let present = positions.filter(\.isInBehind).map(\.rank)
            return absent.map {
                "rank \($0.rank) on \($0.host) is behind with the checkpoint: rank(s) \(list(present)) wait for it in "
                    + "'\(label)', beside the steps"
            }
        }
        let ranks = Dictionary(grouping: positions.filter { $0.waiting?.isBehind == true }) { $0.waiting?.label ?? "" }
            .mapValues { $0.map(\.rank) }
        return [ranks.count > 1 ? differing(ranks) : stuck(in: label)]
    }

    private static func stuck(in label: String) -> String {
        "all ranks are in '\(label)': what they send each other does not get through; look at the network between the hosts"
    }

    /// - Parameter ranks: by what they are in.
    private static func differing(_ ranks: [String: [Int]]) -> String {
        // The fewer are where the others are not.
        let groups = ranks.sorted { ($0.value.count, $0.key) < ($1.value.count, $1.key) }
        return "the ranks are in different collectives: "
            + groups.map { "rank(s) \(list($0.value)) in '\($0.key)'" }.joined(separator: ", ")
    }

    private static func list(_ ranks: [Int]) -> String {
        let shown = ranks.prefix(16).map(String.init).joined(separator: ", ")
        return ranks.count > 16 ? shown + " and \(ranks.count - 16) more" : shown
    }
}
