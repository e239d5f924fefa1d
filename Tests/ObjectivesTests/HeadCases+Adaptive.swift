import Foundation
import Objectives
import TestSupport

/// Heads whose margin or negatives change with length, statistics or chance, and those on multiples of the angle.
extension HeadCase {
    static let adaptiveHeads: [HeadCase] = [
        HeadCase(
            name: "MagFace", margin: MagFace(), dense: magFace,
            expected: [60.0775994262, 2.0095742647, 18.4749903126, -0.3901568138, 0.0488629613, -0.5829720815],
            scaled: true, dependsOnNorm: true),
        HeadCase(
            name: "AdaFace from (20, 100)", margin: AdaFace(), dense: adaFace(mean: 20, deviation: 100),
            expected: [59.0593987659, 2.0638422349, 18.7809882773, -0.3800421585, 0.0495096277, -0.6232801774],
            scaled: true, derivative: .tangential, dependsOnNorm: true, atRest: AdaFace(averaging: 0)),
        HeadCase(
            name: "AdaFace from (30, 15)", margin: AdaFace(mean: 30, deviation: 15),
            dense: adaFace(mean: 30, deviation: 15),
            expected: [60.1552698624, 2.0663832531, 18.8153585586, -0.3799117291, 0.0503677463, -0.6238090944],
            scaled: true, derivative: .tangential, dependsOnNorm: true,
            atRest: AdaFace(averaging: 0, mean: 5, deviation: 3)),
        HeadCase(
            name: "CurricularFace from 0", margin: CurricularFace(), dense: curricularFace(weight: 0),
            expected: [52.1939129165, 19.0140735207, 16.3742027417, 0.4218808951, 2.6218787226, -0.5911951898],
            atRest: CurricularFace(averaging: 0)),
        HeadCase(
            name: "CurricularFace from .3", margin: CurricularFace(weight: 0.3), dense: curricularFace(weight: 0.3),
            expected: [60.5176430625, 22.6774510431, 18.4861336684, -1.4486932546, 3.0237947934, -0.5699990736],
            atRest: CurricularFace(averaging: 0, weight: 0.3)),
        HeadCase(
            name: "ElasticFace arc", margin: elastic(.arc),
            dense: rowMargins {
                cos(acos($0) + $1)
            } slope: {
                sin(acos($0) + $1) / sin(acos($0))
            },
            expected: [57.7011970567, 23.0641765192, 18.6127086067, -3.1493629590, 1.2696952072, -0.5680150782]),
    ]

    static let multiplicativeHeads: [HeadCase] = [
        HeadCase(
            name: "SphereFace m4 λ5", margin: SphereFace(margin: 4, start: 5, floor: 5), dense: sphereFace,
            expected: [3.0305474561, 0.7317343782, 0.5114884373, 0.0211542014, 0.0703402897, -0.0014384291],
            dependsOnNorm: true),
        HeadCase(
            name: "SphereFace-R", margin: SphereFaceR(normalisesCentres: false),
            dense: .target(scale: 30, { multiple($0, 1.5).value }, slope: { _ in 1 }),
            expected: [36.5339959996, 10.8820710130, 8.7231831014, -1.2102024034, 0.6460712956, -0.2878924655],
            derivative: .straightThrough),
    ]

    /// Without reference vectors; held against the definition only.
    static let untabled: [HeadCase] = [
        HeadCase(
            name: "ArcFace clipped", margin: ArcFace(fallback: .clipped), dense: clippedArcFace, expected: []),
        HeadCase(
            name: "ElasticFace cosine", margin: elastic(.cosine),
            dense: rowMargins {
                $0 - $1
            } slope: { _, _ in
                1
            },
            expected: []),
        HeadCase(
            name: "filtered CosFace", margin: InterclassFilter(CosFace(scale: 20), threshold: 0.15),
            dense: DenseHead(
                logits: { $0.map({ $0 > 0.15 ? 0 : 20 * $0 }, target: { 20 * ($0 - 0.35) }) },
                slopes: { $0.map({ $0 > 0.15 ? 0 : 20 }, target: { _ in 20 }) }),
            expected: []),
        HeadCase(
            name: "filtered CurricularFace", margin: InterclassFilter(CurricularFace(weight: 0.3), threshold: 0.2),
            dense: filteredCurricularFace, expected: [],
            atRest: InterclassFilter(CurricularFace(averaging: 0, weight: 0.3), threshold: 0.2)),
    ]

    private static let magFace: DenseHead = {
        @Sendable func margin(_ norm: Double) -> Double { 0.45 + 0.35 * (min(max(norm, 10), 110) - 10) / 100 }
        @Sendable func isInside(_ norm: Double) -> Bool { norm > 10 && norm < 110 }
        return DenseHead(
            logits: { row in
                row.map({ 64 * $0 }, target: { 64 * ($0 > 0 ? cos(acos($0) + margin(row.norm)) : $0) })
            },
            slopes: { row in
                row.map({ _ in 64 }, target: { 64 * ($0 > 0 ? sin(acos($0) + margin(row.norm)) / sin(acos($0)) : 1) })
            },
            normSlopes: { row in
                row.map(
                    { _ in 0 },
                    target: {
                        isInside(row.norm) && $0 > 0 ? -64 * sin(acos($0) + margin(row.norm)) * 0.0035 : 0
                    })
            },
            penalty: { norm in
                let a = min(max(norm, 10), 110)
                return (35 * (a / 12100 + 1 / a), isInside(norm) ? 35 * (1 / 12100 - 1 / (a * a)) : 0)
            })
    }()

    private static func adaFace(mean: Double, deviation: Double) -> DenseHead {
        @Sendable func z(_ row: DenseHead.Row) -> Double {
            let norms = row.norms.map { min(max($0, 0.001), 100) }
            let count = Double(norms.count)
            let average = norms.reduce(0, +) / count
            let variance = norms.reduce(0) { $0 + ($1 - average) * ($1 - average) } / (count - 1)
            let mu = 0.01 * average + 0.99 * mean
            let sigma = 0.01 * variance.squareRoot() + 0.99 * deviation
            return min(max(0.333 * (norms[row.index] - mu) / (sigma + 1e-3), -1), 1)
        }
        @Sendable func clamp(_ c: Double) -> Double { min(max(c, -0.999), 0.999) }
        return DenseHead(
            logits: { row in
                let z = z(row)
                return row.map({ 64 * clamp($0) }) {
                    64 * (cos(min(max(acos(clamp($0)) - 0.4 * z, 1e-3), .pi - 1e-3)) - 0.4 - 0.4 * z)
                }
            },
            slopes: { row in
                let z = z(row)
                return row.map({ abs($0) > 0.999 ? 0 : 64 }) {
                    let angle = acos(clamp($0)) - 0.4 * z
                    return abs($0) > 0.999 || angle < 1e-3 || angle > .pi - 1e-3 ? 0 : 64 * sin(angle) / sin(acos($0))
                }
            })
    }

    private static func curricularFace(weight: Double, cutoff: Double = .infinity) -> DenseHead {
        @Sendable func t(_ row: DenseHead.Row) -> Double {
            0.01 * row.targetCosines.reduce(0, +) / Double(row.targetCosines.count) + 0.99 * weight
        }
        @Sendable func isHard(_ c: Double, _ row: DenseHead.Row) -> Bool {
            c > cos(acos(row.cosines[row.label]) + 0.5)
        }
        return DenseHead(
            logits: { row in
                row.map({ c in c > cutoff ? 0 : 64 * (isHard(c, row) ? c * (t(row) + c) : c) }) {
                    64 * (acos($0) + 0.5 < .pi ? cos(acos($0) + 0.5) : $0 - 0.5 * sin(0.5))
                }
            },
            slopes: { row in
                row.map({ c in c > cutoff ? 0 : 64 * (isHard(c, row) ? t(row) + 2 * c : 1) }) {
                    acos($0) + 0.5 < .pi ? 64 * sin(acos($0) + 0.5) / sin(acos($0)) : 64
                }
            })
    }

    private static let filteredCurricularFace = curricularFace(weight: 0.3, cutoff: 0.2)

    private static let clippedArcFace: DenseHead = {
        @Sendable func clamp(_ c: Double) -> Double { min(max(c, -0.9999), 0.9999) }
        return DenseHead(
            logits: {
                $0.map({ 64 * clamp($0) }) { 64 * cos(min(max(acos(clamp($0)) + 0.5, 1e-4), .pi - 1e-4)) }
            },
            slopes: {
                $0.map({ abs($0) > 0.9999 ? 0 : 64 }) {
                    abs($0) > 0.9999 || acos($0) + 0.5 > .pi - 1e-4 ? 0 : 64 * sin(acos($0) + 0.5) / sin(acos($0))
                }
            })
    }()

    /// The margins of rows 0, 5, 10, …; 1, 6, …; and so on.
    private static let drawn = [0.52, 0.44, 0.5, 0.57, 0.47]

    private static func elastic(_ kind: ElasticFace.Kind) -> ElasticFace {
        var head = ElasticFace(kind: kind, mean: 0.5, deviation: 1, seed: 0)
        head.noise = { sample, _ in drawn[Int(sample) % 5] - 0.5 }
        return head
    }

    private static func rowMargins(
        _ phi: @escaping @Sendable (Double, Double) -> Double, slope: @escaping @Sendable (Double, Double) -> Double
    ) -> DenseHead {
        DenseHead(
            logits: { row in row.map({ 64 * $0 }) { 64 * phi($0, drawn[row.index % 5]) } },
            slopes: { row in row.map({ _ in 64 }) { 64 * slope($0, drawn[row.index % 5]) } })
    }

    /// (−1)^k cos(mθ) − 2k and its derivative with respect to cos θ.
    private static func multiple(_ c: Double, _ m: Double) -> (value: Double, slope: Double) {
        let theta = acos(c)
        let k = floor(m * theta / .pi)
        return (pow(-1, k) * cos(m * theta) - 2 * k, pow(-1, k) * m * sin(m * theta) / sin(theta))
    }

    private static let sphereFace = DenseHead(
        logits: { row in row.map({ row.norm * $0 }) { row.norm * (5 * $0 + multiple($0, 4).value) / 6 } },
        slopes: { row in row.map({ _ in row.norm }) { row.norm * (5 + multiple($0, 4).slope) / 6 } },
        normSlopes: { row in row.map({ $0 }) { (5 * $0 + multiple($0, 4).value) / 6 } })
}
