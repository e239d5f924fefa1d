/// The built-in synthetic faces: how many, and which.
package struct SyntheticSection: Sendable, Equatable, Codable {
    package var identities = 500
    package var imagesPerIdentity = 20
    /// Which universe of identities; two seeds share none.
    package var seed: UInt64 = 1
    /// The first identity, so that training and evaluation can take disjoint ones of the same universe.
    package var firstIdentity = 0
    /// Strength of everything that varies within an identity: 0 nothing, 1 pixels hardly tell identities apart.
    package var variation = 1.0

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        identities = try reader.integer("identities", default: identities, in: 1...100_000_000)
        imagesPerIdentity = try reader.integer("images_per_identity", default: imagesPerIdentity, in: 1...100_000)
        seed = UInt64(try reader.integer("seed", default: Int(seed), in: 0...Int.max))
        firstIdentity = try reader.integer("first_identity", default: 0, in: 0...1_000_000_000)
        variation = try reader.number("variation", default: variation, in: 0...4)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case identities
        case imagesPerIdentity = "images_per_identity"
        case seed, variation
        case firstIdentity = "first_identity"
    }
}

/// One of several sources (`data.train` as a list).
package struct SourceSection: Sendable, Equatable, Codable {
    package enum Labels: String, Sendable, Codable, CaseIterable {
        /// Its identities are different people from those of any other source.
        case separate
        /// Identities of the same name are the same people, with all sources that share.
        case shared
    }

    /// A `.rec`, a folder of identity folders, a list, or `synthetic`.
    package var path = ""
    /// The folder that a list's paths are relative to.
    package var folder: String?
    /// What its identities and records are called by; derived from the path by default.
    package var name: String?
    /// How often its images come in an epoch.
    package var weight = 1.0
    package var labels = Labels.separate

    package init(path: String) { self.path = path }
    init(_ section: SectionReader) throws {
        var reader = section
        path = try reader.string("path", default: "")
        if path.isEmpty { throw RecipeError.missing(key: reader.full("path"), why: "which data this source is") }
        folder = try reader.string("folder")
        name = try reader.string("name")
        if let name, name.isEmpty || name.contains("/") {
            throw reader.error("name", expected: "a name without slashes")
        }
        weight = try reader.number("weight", default: weight, in: 0.0001...10_000)
        labels = try reader.choice("labels", default: labels)
        try reader.finish()
    }
}

/// What is learnt from.
package struct DataSection: Sendable, Equatable, Encodable {
    package enum ChannelOrder: String, Sendable, Codable, CaseIterable { case rgb, bgr }

    package enum Shuffle: String, Sendable, Codable, CaseIterable {
        /// Any record at any place of the epoch.
        case full
        /// Long stretches of the data in random order, shuffled inside: for slow disks and file systems on the network.
        case chunks
        /// The data's own order.
        case none
    }

    package enum Sampling: String, Sendable, Codable, CaseIterable {
        case records
        /// Batches of some identities with `images_per_identity` images each.
        case identities
    }

    /// A `.rec`, a folder of identity folders, a list, or `synthetic`; empty where there are `sources`.
    package var train = "synthetic"
    /// Several sources (`train` as a list).
    package var sources: [SourceSection] = []
    /// The folder that a list's paths are relative to; the list's own by default.
    package var folder: String?
    /// A file of identities and records that must not be trained on.
    package var exclude: String?
    package var synthetic = SyntheticSection()
    package var flip = true
    /// What is done to training images beside mirroring.
    package var augment = AugmentSection()
    /// What is done to the degraded copy of each image, where an objective compares the two; nil: as the objective's paper
    /// has it.
    package var degraded: AugmentSection?
    package var channelOrder = ChannelOrder.rgb
    package var shuffle = Shuffle.full
    /// Records of a chunk, and chunks that are shuffled together.
    package var chunk = 8192
    package var openChunks = 4
    package var sampling = Sampling.records
    package var imagesPerIdentity: Int?
    /// Reading and decoding threads per rank.
    package var threads = 1
    /// Batches prepared ahead.
    package var prefetch = 2
    /// Records that may be unreadable before the run stops.
    package var quarantineLimit = 100

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        if reader.isList("train") {
            sources = try reader.sections("train", shorthand: "path").map { try SourceSection($0) }
            if sources.isEmpty { throw reader.error("train", expected: "at least one source") }
            train = ""
        } else {
            train = try reader.string("train", default: train)
        }
        folder = try reader.string("folder")
        if folder != nil, !sources.isEmpty {
            throw reader.error("folder", expected: "'folder' beside the 'path' of the source that needs it")
        }
        exclude = try reader.string("exclude")
        synthetic = try SyntheticSection(reader.section("synthetic"))
        flip = try reader.bool("flip", default: flip)
        augment = try AugmentSection(reader.section("augment"))
        let degradedReader = try reader.section("degraded")
        if reader.has("degraded") {
            degraded = try AugmentSection(degradedReader)
            if degraded!.isNone { throw reader.error("degraded", expected: "a recipe or a pipeline that does something") }
        }
        channelOrder = try reader.choice("channel_order", default: channelOrder)
        shuffle = try reader.choice("shuffle", default: shuffle)
        chunk = try reader.integer("chunk", default: chunk, in: 1...Int(Int32.max))
        openChunks = try reader.integer("open_chunks", default: openChunks, in: 1...10_000)
        sampling = try reader.choice("sampling", default: sampling)
        imagesPerIdentity = try reader.integer("images_per_identity", in: 1...100_000)
        try checkSampling(reader)
        // `workers` is what the key was called first; recipes of older runs have it.
        let workers = try reader.integer("workers", default: threads, in: 1...256)
        threads = try reader.integer("threads", default: workers, in: 1...256)
        prefetch = try reader.integer("prefetch", default: prefetch, in: 1...1000)
        quarantineLimit = try reader.integer("quarantine_limit", default: quarantineLimit, in: 0...Int.max)
        try reader.finish(derived: ["num_classes", "classes", "num_images", "num_image", "images"])
    }

    private func checkSampling(_ reader: SectionReader) throws {
        switch sampling {
        case .records:
            if imagesPerIdentity != nil {
                throw reader.error("images_per_identity", expected: "'sampling: identities' beside it")
            }
        case .identities:
            if imagesPerIdentity == nil {
                throw RecipeError.missing(
                    key: reader.full("images_per_identity"), why: "how many images of an identity a batch holds")
            }
            if shuffle != .full {
                throw reader.error("shuffle", expected: "full: identities are drawn from all of the data")
            }
            if sources.contains(where: { $0.weight != 1 }) {
                throw reader.error(
                    "sampling", expected: "records where sources have weights: every identity comes once per epoch")
            }
        }
    }

    private enum CodingKeys: String, CodingKey {
        case train, folder, exclude, synthetic, flip, augment, degraded, shuffle, chunk, sampling, threads, prefetch
        case channelOrder = "channel_order"
        case openChunks = "open_chunks"
        case imagesPerIdentity = "images_per_identity"
        case quarantineLimit = "quarantine_limit"
    }

    /// `train` is written as it is read: a text or a list.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        if sources.isEmpty {
            try container.encode(train, forKey: .train)
        } else {
            try container.encode(sources, forKey: .train)
        }
        try container.encodeIfPresent(folder, forKey: .folder)
        try container.encodeIfPresent(exclude, forKey: .exclude)
        try container.encode(synthetic, forKey: .synthetic)
        try container.encode(flip, forKey: .flip)
        try container.encode(augment, forKey: .augment)
        try container.encodeIfPresent(degraded, forKey: .degraded)
        try container.encode(channelOrder, forKey: .channelOrder)
        try container.encode(shuffle, forKey: .shuffle)
        try container.encode(chunk, forKey: .chunk)
        try container.encode(openChunks, forKey: .openChunks)
        try container.encode(sampling, forKey: .sampling)
        try container.encodeIfPresent(imagesPerIdentity, forKey: .imagesPerIdentity)
        try container.encode(threads, forKey: .threads)
        try container.encode(prefetch, forKey: .prefetch)
        try container.encode(quarantineLimit, forKey: .quarantineLimit)
    }
}
