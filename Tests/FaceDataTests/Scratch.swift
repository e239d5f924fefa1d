import FaceData
import Foundation
import Synchronization
import Tensors

/// A folder of its own; all go away when the process ends.
struct Scratch {
    let path: String

    private static let root: String = {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("acuity-\(UUID().uuidString)").path
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: Scratch.root) }
        return path
    }()

    init() {
        path = Scratch.root + "/" + UUID().uuidString
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) -> String {
        let file = path + "/" + name
        try! FileManager.default.createDirectory(
            atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try! Data(bytes).write(to: URL(fileURLWithPath: file))
        return file
    }

    @discardableResult
    func write(_ name: String, _ text: String) -> String { write(name, Array(text.utf8)) }

    func makeFolder(_ name: String) {
        try! FileManager.default.createDirectory(atPath: path + "/" + name, withIntermediateDirectories: true)
    }

    func remove(_ name: String) { try! FileManager.default.removeItem(atPath: path + "/" + name) }
    func bytes(_ name: String) -> [UInt8] { Scratch.bytes(path + "/" + name) }
    static func bytes(_ path: String) -> [UInt8] { [UInt8](FileManager.default.contents(atPath: path)!) }
}

/// Files that a script under scripts/reference has made.
enum Fixture {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures/data").path

    static func bytes(_ name: String) -> [UInt8] { Scratch.bytes(folder + "/" + name) }

    /// The folder of real faces that the environment names; nil without one.
    static let realFaces = ProcessInfo.processInfo.environment["ACUITY_FACES"]
}

/// A smooth image with some noise: what a JPEG encoder likes, different for every seed.
func testImage(_ seed: UInt64, width: Int = 112, height: Int = 112) -> RGBImage {
    var random = RandomStream(seed: seed, purpose: .test, index: 0)
    let phase = (0..<6).map { _ in random.uniform(0, 6) }
    var image = RGBImage(width: width, height: height)
    for y in 0..<height {
        for x in 0..<width {
            for c in 0..<3 {
                let wave = sin(phase[c] + 0.11 * Double(x)) + cos(phase[c + 3] + 0.07 * Double(y))
                let value = 128 + 50 * wave + random.uniform(-8, 8)
                image.pixels[3 * (y * width + x) + c] = UInt8(max(0, min(255, value)))
            }
        }
    }
    return image
}

/// A source in memory: `perClass` PNG images for each of `classes` classes, some of them damaged.
struct MemorySource: FaceSource {
    let images: [[UInt8]]
    let labels: [Int]
    let classCount: Int
    var location: String { "memory" }
    var count: Int { images.count }

    init(classes: Int, perClass: Int, size: Int = 112, damaged: Set<Int> = []) {
        images = (0..<classes * perClass).map { index in
            let bytes = try! ImageCodec.encodePNG(testImage(UInt64(index), width: size, height: size))
            return damaged.contains(index) ? Array(bytes.prefix(bytes.count / 2)) : bytes
        }
        labels = (0..<classes * perClass).map { $0 / perClass }
        classCount = classes
    }

    func label(of index: Int) -> Int { labels[index] }
    func key(of index: Int) -> String { "image \(index)" }
    func identityName(_ label: Int) -> String { "person \(label)" }
    func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { images[index] }
}

/// Calls `body` with variants of `bytes` (flipped bits, changed, removed and repeated stretches, cuts) for about `seconds`.
func mutate(_ bytes: [UInt8], seconds: Double, _ body: ([UInt8]) -> Void) -> Int {
    var random = RandomStream(seed: 20_24, purpose: .test, index: UInt64(bytes.count))
    let end = Date().addingTimeInterval(seconds)
    var rounds = 0
    while Date() < end {
        var variant = bytes
        for _ in 0...random.below(3) where !variant.isEmpty {
            let position = random.below(variant.count)
            switch random.below(6) {
            case 0: variant[position] ^= 1 << UInt8(random.below(8))
            case 1: variant[position] = UInt8(random.below(256))
            case 2: variant[position] = [0x00, 0xFF, 0x7F, 0x80][random.below(4)]
            case 3: variant.removeSubrange(position..<min(variant.count, position + 1 + random.below(16)))
            case 4:
                let stretch = Array(variant[position..<min(variant.count, position + 1 + random.below(16))])
                variant.insert(contentsOf: stretch, at: random.below(variant.count))
            default: variant.removeSubrange(position...)
            }
        }
        body(variant)
        rounds += 1
    }
    return rounds
}

/// A source of one identity that notes what it is asked to read ahead, and makes its images itself.
final class WatchedSource: FaceSource {
    let count: Int
    private let ranges = Mutex<[Range<Int>]>([])
    var asked: [Range<Int>] { ranges.withLock { $0 } }

    init(count: Int) { self.count = count }

    var location: String { "watched" }
    var classCount: Int { 1 }
    func label(of index: Int) -> Int { 0 }
    func key(of index: Int) -> String { "\(index)" }
    func identityName(_ label: Int) -> String { "\(label)" }
    func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { [] }
    func image(at index: Int) throws(FaceDataError) -> RGBImage { RGBImage(width: 16, height: 16) }
    func willNeed(_ records: Range<Int>) { ranges.withLock { $0.append(records) } }
}
