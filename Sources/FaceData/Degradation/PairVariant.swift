/// A degraded version of a verification set: which degradation each image gets.
package enum PairVariant: Sendable, Equatable {
    /// Which images of a pair are degraded.
    package enum Sides: String, Sendable, CaseIterable {
        /// The first, as CR-LFW has it (QGFace).
        case first
        /// The second.
        case one
        case both

        package func includes(second isSecond: Bool) -> Bool { self == .both || (self == .one) == isSecond }

        package var words: String {
            switch self {
            case .first: "first image"
            case .one: "second image"
            case .both: "both images"
            }
        }
    }

    /// How an image is reduced and enlarged again.
    package struct Kernels: Sendable, Equatable {
        package var down: ResizeKernel
        package var up: ResizeKernel

        package init(down: ResizeKernel, up: ResizeKernel) {
            self.down = down
            self.up = up
        }
    }

    case original
    /// `set@P`: reduced to P x P and back, by area averaging and bicubic where no kernels are given.
    case reduced(side: Int, Sides, kernels: Kernels? = nil)
    /// `set@mixed`: each image as a table says.
    case mixed(DegradationTable)

    /// What happens to an image.
    /// - Parameters:
    ///   - key: the image's key in its `PairSet`.
    ///   - isSecond: whether it is the second image of its pair.
    /// - Throws: when a table does not list the image.
    package func degradation(of key: String, isSecond: Bool) throws(FaceDataError) -> Degradation {
        switch self {
        case .original: return .none
        case .reduced(let side, let sides, let kernels):
            return sides.includes(second: isSecond) ? Self.reduction(to: side, kernels) : .none
        case .mixed(let table): return try table.degradation(of: key)
        }
    }

    /// The reduction of one image to side x side.
    package static func reduction(to side: Int, _ kernels: Kernels?) -> Degradation {
        guard let kernels else { return .reduce(side: side) }
        return .resample(.init(width: side, height: side, down: kernels.down, up: kernels.up))
    }

    /// Whether an image is the same on either side of a pair, so that it has to be embedded only once.
    package var isSideIndependent: Bool {
        if case .reduced(_, let sides, _) = self { sides == .both } else { true }
    }

    /// What is done, for reports.
    package var words: String {
        switch self {
        case .original: return "none"
        case .reduced(let side, let sides, let kernels):
            let how = kernels.map { " (down \($0.down.rawValue), up \($0.up.rawValue))" } ?? ""
            return "\(side) px\(how), \(sides.words)"
        case .mixed(let table): return "as \(table.location) says"
        }
    }
}

/// The degradation of each image of a set, from a file of lines `image<TAB>kind<TAB>value<TAB>seed` with a first line that
/// begins with `#`. Kinds and values: none; blur, sigma in pixels; reduce, the side in pixels; jpeg, the quality; gamma,
/// the exponent; noise, sigma in units of 1/255, drawn with the seed.
package struct DegradationTable: Sendable, Equatable {
    package let location: String
    private let entries: [String: Degradation]

    package var count: Int { entries.count }

    /// - Throws: `FaceDataError` with the line's number.
    package init(_ path: String) throws(FaceDataError) {
        var entries: [String: Degradation] = [:]
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty || line.first == 0x23 { return }
            func error(_ reason: String) -> FaceDataError {
                FaceDataError(.malformed, file: path, at: .line(number), reason)
            }
            let text = try String(line: line, number, of: path)
            let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 4, let value = Double(fields[2]), let seed = UInt64(fields[3]) else {
                throw error("expected image, kind, value and seed, separated by tabs")
            }
            guard let degradation = Degradation(kind: String(fields[1]), value: value, seed: seed) else {
                throw error("no degradation \"\(fields[1])\" with the value \(fields[2])")
            }
            guard entries.updateValue(degradation, forKey: String(fields[0])) == nil else {
                throw error("\(fields[0]) comes twice")
            }
        }
        guard !entries.isEmpty else { throw FaceDataError(.malformed, file: path, "lists no image") }
        location = path
        self.entries = entries
    }

    package func degradation(of key: String) throws(FaceDataError) -> Degradation {
        guard let degradation = entries[key] else {
            throw FaceDataError(.malformed, file: location, "does not list \(key)")
        }
        return degradation
    }
}
