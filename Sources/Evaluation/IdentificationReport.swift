/// What was searched for, and how: a figure without these facts cannot be compared with another.
package struct IdentificationFacts: Sendable, Equatable, Codable {
    /// What the data is called.
    package let dataset: String
    /// Whose rules: "tinyface", "scface".
    package let rules: String
    /// What of the data was taken, e.g. "cameras 1-5, all subjects".
    package let selection: String
    package let flip: FlipFusion
    /// Whose embeddings.
    package let embeddings: String
    /// Where equal scores are ranked.
    package let ties: String

    package init(
        dataset: String, rules: String, selection: String, flip: FlipFusion, embeddings: String,
        ties: String = "against the probe"
    ) {
        self.dataset = dataset
        self.rules = rules
        self.selection = selection
        self.flip = flip
        self.embeddings = embeddings
        self.ties = ties
    }
}

/// All figures of closed-set identification on one data set.
package struct IdentificationReport: Sendable, Equatable, Codable {
    /// The rate at one rank.
    package struct Rate: Sendable, Equatable, Codable {
        package let rank: Int
        /// Probes with a mate among that many.
        package let found: Int
        package let rate: Double
        /// Wilson's interval.
        package let interval: ConfidenceInterval
    }

    /// Figures of some of the probes.
    package struct Group: Sendable, Equatable, Codable {
        package let name: String
        /// Probes that were searched for.
        package let probes: Int
        /// Probes that were left out because the gallery lacks their identity.
        package let probesWithoutMate: Int
        package let rates: [Rate]
        package let meanAveragePrecision: Double
        /// At k - 1 the rate at rank k.
        package let matchCharacteristic: [Double]

        /// - Parameters:
        ///   - placements: at least one.
        ///   - ranks: what rates are given for.
        ///   - maximumRank: the length of the characteristic.
        package init(
            _ name: String, placements: [Identification.Placement], probesWithoutMate: Int, ranks: [Int],
            maximumRank: Int
        ) {
            precondition(!ranks.contains { $0 < 1 }, "ranks \(ranks)")
            let all = Identification(placements, gallery: 0, distractors: 0, maximumRank: maximumRank)
            self.name = name
            probes = placements.count
            self.probesWithoutMate = probesWithoutMate
            rates = ranks.map { rank in
                let found = placements.count { $0.rank <= rank }
                return Rate(
                    rank: rank, found: found, rate: Double(found) / Double(placements.count),
                    interval: .wilson(successes: found, trials: placements.count))
            }
            meanAveragePrecision = all.meanAveragePrecision
            matchCharacteristic = all.matchCharacteristic
        }
    }

    package let facts: IdentificationFacts
    /// Gallery images, distractors included.
    package let gallery: Int
    /// Identities in the gallery, not counting distractors.
    package let galleryIdentities: Int
    package let distractors: Int
    package let groups: [Group]

    package init(
        facts: IdentificationFacts, gallery: Int, galleryIdentities: Int, distractors: Int, groups: [Group]
    ) {
        self.facts = facts
        self.gallery = gallery
        self.galleryIdentities = galleryIdentities
        self.distractors = distractors
        self.groups = groups
    }
}
