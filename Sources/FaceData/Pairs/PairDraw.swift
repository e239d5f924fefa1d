internal import Tensors

/// Balanced verification pairs from labelled images, in folds that share no identity.
///
/// Identities are dealt to the folds so that each can form about the same number of genuine pairs. A fold's genuine pairs
/// come from its identities in turn, and its impostor pairs from two of its identities, drawn uniformly; no pair comes
/// twice. The same labels, sizes and seed give the same pairs.
package struct PairDraw: Sendable {
    package struct Options: Sendable {
        package var folds = 10
        /// Half of them genuine.
        package var pairsPerFold = 600
        package var seed: UInt64 = 1

        package init() {}
    }

    /// By fold; in a fold the genuine pairs first. Images are records of the source.
    package let pairs: [FacePair]
    package let foldCount: Int

    /// - Parameter labels: of each record, not negative.
    /// - Throws: `FaceDataError` when the set is too small; it says for how many pairs it would do.
    package init(_ source: any FaceSource, options: Options = Options()) throws(FaceDataError) {
        precondition(
            options.folds > 0 && options.pairsPerFold > 0 && options.pairsPerFold % 2 == 0,
            "\(options.folds) folds of \(options.pairsPerFold) pairs")
        let members = Self.members(source)
        let half = options.pairsPerFold / 2
        let folds = Self.deal(members, options)
        let capacity = folds.map { fold in
            (genuine: Self.genuine(fold, members), impostor: Self.impostor(fold, members))
        }
        let least = capacity.map { min($0.genuine, $0.impostor) }.min() ?? 0
        guard least >= half else {
            throw FaceDataError(
                .malformed, file: source.location,
                "too small for \(options.folds) folds of \(options.pairsPerFold) pairs: with no identity in two folds, "
                    + "the fold with the fewest images can form \(capacity.map(\.genuine).min() ?? 0) genuine and "
                    + "\(capacity.map(\.impostor).min() ?? 0) impostor pairs where \(half) of each are asked for",
                advice: least > 0
                    ? "ask for at most \(2 * least) pairs per fold, or for fewer folds"
                    : "add identities with two or more images, or ask for fewer folds")
        }
        var pairs: [FacePair] = []
        pairs.reserveCapacity(options.folds * options.pairsPerFold)
        for (number, fold) in folds.enumerated() {
            var random = RandomStream(seed: options.seed, purpose: .pairs, index: UInt64(number), step: 1)
            let genuine = Self.genuinePairs(fold, members, count: half, seed: options.seed, &random)
            let impostor = Self.impostorPairs(fold, members, count: half, &random)
            pairs += genuine.map { FacePair(first: $0.first, second: $0.second, isSame: true, fold: number) }
            pairs += impostor.map { FacePair(first: $0.first, second: $0.second, isSame: false, fold: number) }
        }
        self.pairs = pairs
        foldCount = options.folds
    }

    private struct Couple: Hashable {
        let first: Int
        let second: Int
    }

    /// The records of each class.
    private static func members(_ source: any FaceSource) -> [[Int]] {
        var members = [[Int]](repeating: [], count: source.classCount)
        for record in 0..<source.count { members[source.label(of: record)].append(record) }
        return members
    }

    // MARK: - Folds

    private static func pairCount(_ count: Int) -> Int { count * (count - 1) / 2 }

    /// Deals the identities, those that form the most pairs first, each to the fold that can form the fewest so far: among
    /// equal ones to that with the fewest identities.
    private static func deal(_ members: [[Int]], _ options: Options) -> [[Int]] {
        var random = RandomStream(seed: options.seed, purpose: .pairs, index: 0, step: 0)
        var order = Array(members.indices)
        shuffle(&order, &random)
        // One identity must not fill a fold: its pairs count up to what a fold needs.
        let half = options.pairsPerFold / 2
        let worth = members.map { min(pairCount($0.count), half) }
        let places = Dictionary(uniqueKeysWithValues: zip(order, 0...))
        order.sort { worth[$0] != worth[$1] ? worth[$0] > worth[$1] : places[$0]! < places[$1]! }
        var folds = [[Int]](repeating: [], count: options.folds)
        var sums = [Int](repeating: 0, count: options.folds)
        for identity in order {
            // Single images serve impostor pairs only: they go where there are few identities.
            let sum = { (fold: Int) in worth[identity] > 0 ? sums[fold] : 0 }
            var best = 0
            for fold in folds.indices.dropFirst()
            where (sum(fold), folds[fold].count) < (sum(best), folds[best].count) {
                best = fold
            }
            folds[best].append(identity)
            sums[best] += worth[identity]
        }
        return folds
    }

    private static func genuine(_ fold: [Int], _ members: [[Int]]) -> Int {
        fold.reduce(0) { $0 + pairCount(members[$1].count) }
    }

    private static func impostor(_ fold: [Int], _ members: [[Int]]) -> Int {
        pairCount(fold.reduce(0) { $0 + members[$1].count }) - genuine(fold, members)
    }

    // MARK: - Pairs

    /// The identities in turn, in an order drawn anew for each round, each with a pair that it has not given yet.
    private static func genuinePairs(
        _ fold: [Int], _ members: [[Int]], count: Int, seed: UInt64, _ random: inout RandomStream
    ) -> [Couple] {
        var givers = fold.filter { members[$0].count > 1 }.map { GenuinePairs(members[$0], identity: $0, seed: seed) }
        var chosen: [Couple] = []
        while chosen.count < count {
            var order = Array(givers.indices)
            shuffle(&order, &random)
            for giver in order where chosen.count < count {
                guard let pair = givers[giver].next() else { continue }
                chosen.append(pair)
            }
            givers.removeAll { $0.isExhausted }
            precondition(!givers.isEmpty || chosen.count == count, "fewer genuine pairs than counted")
        }
        return chosen
    }

    /// The pairs of one identity in random order, without repetition.
    private struct GenuinePairs {
        private let images: [Int]
        private var random: RandomStream
        private var given: Set<Couple> = []
        /// All that are left, in the order in which they are given; only once most of them were.
        private var rest: [Couple]?

        init(_ images: [Int], identity: Int, seed: UInt64) {
            self.images = images
            random = RandomStream(seed: seed, purpose: .pairs, index: UInt64(identity), step: 2)
        }

        var isExhausted: Bool { given.count == PairDraw.pairCount(images.count) }

        mutating func next() -> Couple? {
            if isExhausted { return nil }
            let all = PairDraw.pairCount(images.count)
            if rest == nil, 2 * given.count >= all || all <= 64 { rest = remaining() }
            if let pair = rest?.popLast() {
                given.insert(pair)
                return pair
            }
            while true {
                let a = random.below(images.count)
                let b = (a + 1 + random.below(images.count - 1)) % images.count
                let pair = Couple(first: images[min(a, b)], second: images[max(a, b)])
                if given.insert(pair).inserted { return pair }
            }
        }

        private mutating func remaining() -> [Couple] {
            var left: [Couple] = []
            for a in images.indices {
                for b in a + 1..<images.count {
                    let pair = Couple(first: images[a], second: images[b])
                    if !given.contains(pair) { left.append(pair) }
                }
            }
            PairDraw.shuffle(&left, &random)
            return left
        }
    }

    private static func impostorPairs(
        _ fold: [Int], _ members: [[Int]], count: Int, _ random: inout RandomStream
    ) -> [Couple] {
        var chosen: [Couple] = []
        var given: Set<Couple> = []
        for _ in 0..<100 * count where chosen.count < count {
            let a = random.below(fold.count)
            let b = (a + 1 + random.below(fold.count - 1)) % fold.count
            let first = members[fold[a]][random.below(members[fold[a]].count)]
            let second = members[fold[b]][random.below(members[fold[b]].count)]
            // A pair is the same either way round.
            if given.insert(Couple(first: min(first, second), second: max(first, second))).inserted {
                chosen.append(Couple(first: first, second: second))
            }
        }
        if chosen.count == count { return chosen }
        // Hardly any are left: all of them, in random order.
        var left: [Couple] = []
        for (place, identity) in fold.enumerated() {
            for other in fold[(place + 1)...] {
                for first in members[identity] {
                    for second in members[other]
                    where !given.contains(Couple(first: min(first, second), second: max(first, second))) {
                        left.append(Couple(first: first, second: second))
                    }
                }
            }
        }
        shuffle(&left, &random)
        return chosen + left.prefix(count - chosen.count)
    }

    /// Fisher and Yates, written out so that the order does not depend on the standard library's version.
    private static func shuffle<Element>(_ values: inout [Element], _ random: inout RandomStream) {
        for last in stride(from: values.count - 1, to: 0, by: -1) { values.swapAt(last, random.below(last + 1)) }
    }
}
