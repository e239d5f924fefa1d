/// The head over the class centres: which margin function with which values, and what all of them share.
///
/// The keys of the margin functions are those of `MarginSections.swift`, beside `margin` in the same section; a key that
/// the chosen one does not have is an error.
package struct HeadSection: Sendable, Equatable, Encodable {
    package enum Centres: String, Sendable, Codable, CaseIterable {
        case normal
        case unitUniform = "unit_uniform"
    }

    /// The names that `head.margin` takes.
    package enum Name: String, Sendable, Codable, CaseIterable {
        case softmax, normface, sphereface
        case sphereFaceR = "sphereface_r"
        case cosface, arcface, combined, magface, adaface, curricularface
        case elasticFaceArc = "elasticface_arc"
        case elasticFaceCos = "elasticface_cos"
    }

    package enum Margin: Sendable, Equatable {
        case softmax(SoftmaxSection)
        case normface(NormFaceSection)
        case sphereface(SphereFaceSection)
        case sphereFaceR(SphereFaceRSection)
        case cosface(CosFaceSection)
        case arcface(ArcFaceSection)
        case combined(CombinedSection)
        case magface(MagFaceSection)
        case adaface(AdaFaceSection)
        case curricularface(CurricularFaceSection)
        case elasticFaceArc(ElasticFaceSection)
        case elasticFaceCos(ElasticFaceSection)

        init(_ name: Name, _ reader: inout SectionReader) throws {
            self =
                switch name {
                case .softmax: .softmax(try SoftmaxSection(&reader))
                case .normface: .normface(try NormFaceSection(&reader))
                case .sphereface: .sphereface(try SphereFaceSection(&reader))
                case .sphereFaceR: .sphereFaceR(try SphereFaceRSection(&reader))
                case .cosface: .cosface(try CosFaceSection(&reader))
                case .arcface: .arcface(try ArcFaceSection(&reader))
                case .combined: .combined(try CombinedSection(&reader))
                case .magface: .magface(try MagFaceSection(&reader))
                case .adaface: .adaface(try AdaFaceSection(&reader))
                case .curricularface: .curricularface(try CurricularFaceSection(&reader))
                case .elasticFaceArc: .elasticFaceArc(try ElasticFaceSection(&reader, defaults: .arc))
                case .elasticFaceCos: .elasticFaceCos(try ElasticFaceSection(&reader, defaults: .cosine))
                }
        }

        private var content: (name: Name, section: any MarginSection) {
            switch self {
            case .softmax(let section): (.softmax, section)
            case .normface(let section): (.normface, section)
            case .sphereface(let section): (.sphereface, section)
            case .sphereFaceR(let section): (.sphereFaceR, section)
            case .cosface(let section): (.cosface, section)
            case .arcface(let section): (.arcface, section)
            case .combined(let section): (.combined, section)
            case .magface(let section): (.magface, section)
            case .adaface(let section): (.adaface, section)
            case .curricularface(let section): (.curricularface, section)
            case .elasticFaceArc(let section): (.elasticFaceArc, section)
            case .elasticFaceCos(let section): (.elasticFaceCos, section)
            }
        }

        package var name: Name { content.name }
        var section: any MarginSection { content.section }
        /// s, where logits are scaled cosines.
        package var scale: Double? { section.logitScale }
    }

    package var margin = Margin.cosface(CosFaceSection())
    /// Other classes with a larger cosine are taken out of the softmax; nil for none.
    package var filter: Double?
    /// How class centres start; by default as in the code that the head comes from.
    package var centres = Centres.normal
    package var sampling = HeadSamplingSection()
    package var storage = HeadStorageKind.memory
    /// Where `storage: file` puts its files; the run's folder by default.
    package var storageFolder: String?

    package init() {}

    /// A head with all that is not given as its lineage has it.
    package init(_ margin: Margin) {
        self.margin = margin
        centres = margin.section.centres
    }

    init(_ section: SectionReader) throws {
        var reader = section
        let name = try reader.choice("margin", default: Name.cosface)
        margin = try Margin(name, &reader)
        if name != .softmax { filter = try reader.number("filter", in: 0.01...1) }
        centres = try reader.choice("centres", default: margin.section.centres)
        sampling = try HeadSamplingSection(reader.section("sampling"))
        storage = try reader.choice("storage", default: storage)
        storageFolder = try reader.string("storage_folder")
        if storageFolder != nil, storage == .memory {
            throw reader.error("storage_folder", expected: "storage: file, or no storage_folder")
        }
        try reader.finish(derived: ["num_classes", "classes"], owner: "head.margin: \(name.rawValue)")
    }

    private enum CodingKeys: String, CodingKey {
        case margin, filter, centres, sampling, storage
        case storageFolder = "storage_folder"
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(margin.name, forKey: .margin)
        try margin.section.encode(to: encoder)
        try container.encodeIfPresent(filter, forKey: .filter)
        try container.encode(centres, forKey: .centres)
        try container.encode(sampling, forKey: .sampling)
        try container.encode(storage, forKey: .storage)
        try container.encodeIfPresent(storageFolder, forKey: .storageFolder)
    }
}
