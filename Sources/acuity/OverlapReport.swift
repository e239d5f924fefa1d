import Evaluation
import FaceData
import Figures
import Foundation
import Tensors
import Training

/// What `dataset overlap` has found, as text, table, exclusion list and picture.
struct OverlapReport {
    /// The training set, or the test set.
    struct Side: Sendable {
        let source: any FaceSource
        let names: IdentityNames

        init(_ source: any FaceSource) {
            self.source = source
            names = IdentityNames(source)
        }

        func title(_ label: Int) -> String { names.title(label, source) }
    }

    struct Row {
        var candidate: IdentityOverlap.Candidate
        var hasName: Bool
        var isFound: Bool
    }

    let sides: [Side]
    let centroids: [IdentityCentroids]
    let threshold: Double
    let origin: String
    /// The most alike first.
    let rows: [Row]

    init(
        sides: [Side], centroids: [IdentityCentroids], nearest: [[IdentityOverlap.Candidate]], threshold: Double,
        origin: String
    ) {
        self.sides = sides
        self.centroids = centroids
        self.threshold = threshold
        self.origin = origin
        var byName: [String: Set<Int>] = [:]
        for (label, names) in sides[1].names.names.enumerated() {
            for key in names.compactMap({ PersonName.key($0) }) { byName[key, default: []].insert(label) }
        }
        var rows: [Row] = []
        for identity in nearest.indices {
            let keys = sides[0].names.names[identity].compactMap { PersonName.key($0) }
            var namesakes = keys.reduce(into: Set<Int>()) { $0.formUnion(byName[$1] ?? []) }
            for candidate in nearest[identity] {
                let hasName = namesakes.remove(candidate.other) != nil
                rows.append(
                    Row(
                        candidate: candidate, hasName: hasName,
                        isFound: hasName || Double(candidate.cosine) >= threshold))
            }
            // However little they look alike.
            for other in namesakes {
                let cosine = centroids[0].directions.similarity(identity, centroids[1].directions, other)
                rows.append(
                    Row(
                        candidate: .init(identity: identity, other: other, cosine: Float(cosine)), hasName: true,
                        isFound: true))
            }
        }
        rows.sort {
            let (x, y) = ($0.candidate, $1.candidate)
            return (y.cosine, x.identity, x.other) < (x.cosine, y.identity, y.other)
        }
        self.rows = rows
    }

    /// Of the training set.
    var identities: Set<Int> { Set(rows.filter(\.isFound).map(\.candidate.identity)) }

    /// What is found first, then what comes closest to it.
    private func shown(_ most: Int) -> [Row] { rows.filter(\.isFound) + rows.filter { !$0.isFound }.prefix(most) }

    // MARK: - Text

    func text(show: Int) -> String {
        let found = rows.filter(\.isFound)
        var lines = zip(["training set", "test set"], zip(sides, centroids)).map { what, side in
            "\(what): \(side.0.source.location), \(side.0.source.classCount) identities, "
                + "\(side.1.images.reduce(0, +)) images embedded"
                + (side.1.unreadable > 0 ? ", \(side.1.unreadable) could not be read" : "")
        }
        lines.append(String(format: "threshold: cosine %.3f (", threshold) + origin + ")")
        let alike = found.count { Double($0.candidate.cosine) >= threshold }
        lines.append(
            "\(identities.count) training identities look like one of the test set or bear its name: \(alike) pairs by face, "
                + "\(found.count(where: \.hasName)) by name")
        let table = shown(show).prefix(200)
        if !table.isEmpty { lines.append("  cosine  found  name  training identity (images) ~ test identity (images)") }
        for row in table {
            let (a, b) = (row.candidate.identity, row.candidate.other)
            lines.append(
                String(format: "  %6.3f  ", row.candidate.cosine) + (row.isFound ? "yes    " : "no     ")
                    + (row.hasName ? "same  " : "      ")
                    + "\(sides[0].title(a)) (\(centroids[0].images[a])) ~ \(sides[1].title(b)) (\(centroids[1].images[b]))"
            )
        }
        if found.count > table.count {
            lines.append("  and \(found.count - table.count) more; --report FILE names them")
        }
        return lines.joined(separator: "\n")
    }

    func table() -> String {
        var lines = [
            "cosine\tfound\tsame_name\ttraining_identity\ttraining_name\ttraining_images\ttest_identity\ttest_name\ttest_images"
        ]
        for row in rows {
            let labels = [row.candidate.identity, row.candidate.other]
            let fields = (0..<2).flatMap { side in
                [
                    sides[side].source.identityName(labels[side]),
                    sides[side].names.names[labels[side]].joined(separator: "|"),
                    "\(centroids[side].images[labels[side]])",
                ]
            }
            let start = [
                String(format: "%.4f", row.candidate.cosine), row.isFound ? "1" : "0", row.hasName ? "1" : "0",
            ]
            lines.append((start + fields).joined(separator: "\t"))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// One identity of the training set to a line, after a comment that says why.
    func exclusions() -> String {
        var lines = [
            "# Identities of \(sides[0].source.location) that are in \(sides[1].source.location) too",
            String(format: "# cosine of at least %.3f, or the same name", threshold),
        ]
        var listed: Set<Int> = []
        for row in rows where row.isFound && listed.insert(row.candidate.identity).inserted {
            let (a, b) = (row.candidate.identity, row.candidate.other)
            lines.append(
                String(format: "# %.3f ", row.candidate.cosine) + sides[0].title(a) + " ~ " + sides[1].title(b)
                    + (row.hasName ? ", the same name" : ""))
            lines.append(sides[0].source.identityName(a))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: - Picture

    private static let imagesOfASide = 3
    private static let mostRows = 60

    /// A row for each candidate: images of the training identity, the cosine, images of the test identity.
    func sheet(atLeast: Int) -> ContactSheet {
        let found = rows.filter(\.isFound).count
        let chosen = shown(max(1, atLeast - found)).prefix(Self.mostRows)
        let tables = sides.map { IdentityTable($0.source) }
        let blank = ContactSheet.Item(RGBImage(width: 112, height: 112, fill: (255, 255, 255)))
        var items: [ContactSheet.Item] = []
        for row in chosen {
            let labels = [row.candidate.identity, row.candidate.other]
            for side in 0..<2 {
                let images = faces(labels[side], side, tables[side])
                items += images.enumerated().map { place, image in
                    ContactSheet.Item(image, caption: place == 0 ? [sides[side].title(labels[side])] : [])
                }
                items += Array(repeating: blank, count: Self.imagesOfASide - images.count)
                if side == 0 { items.append(middle(row)) }
            }
        }
        if items.isEmpty { items.append(blank) }
        return ContactSheet(
            items, columns: 2 * Self.imagesOfASide + 1,
            title: "\(found) found; left the training set, right the test set", background: .white)
    }

    /// The cosine, between the two sides, on an image of its own.
    private func middle(_ row: Row) -> ContactSheet.Item {
        let text = String(format: "%.3f", row.candidate.cosine)
        return ContactSheet.Item(
            RGBImage(width: 112, height: 112, fill: (255, 255, 255)),
            caption: [text + (row.hasName ? ", name" : "") + (row.isFound ? "" : " (not found)")])
    }

    private func faces(_ label: Int, _ side: Int, _ table: IdentityTable) -> [RGBImage] {
        let records = table.records(of: label)
        let count = min(records.count, Self.imagesOfASide)
        return (0..<count).compactMap { place in
            let record = Int(records[records.startIndex + place * records.count / count])
            guard let image = try? sides[side].source.image(at: record) else { return nil }
            return Preprocessing.arcFace.fitted(image)
        }
    }
}
