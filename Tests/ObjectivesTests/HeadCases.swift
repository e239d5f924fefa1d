import Foundation
import Objectives
import TestSupport
import Testing

/// One head: the margin function, its definition for the oracle, and the values it must give on the closed-form
/// problem.
struct HeadCase: Sendable, CustomTestStringConvertible {
    var name: String
    var margin: any MarginFunction
    var dense: DenseHead
    /// L, ‖dL/dE‖, ‖dL/dW‖, dL/dE[0][0], dL/dE[4][0], dL/dW[2][0], computed by an independent implementation in double.
    var expected: [Double]
    /// Whether the problem's embeddings are the scaled ones.
    var scaled = false
    var derivative = Derivative.full
    /// Whether the value changes with ‖x‖.
    var dependsOnNorm = false
    /// The same head with its moving averages at rest, where they depend on the embeddings.
    var atRest: (any MarginFunction)?

    /// What backward is the derivative of.
    enum Derivative: Sendable {
        case full
        /// The loss along directions that keep ‖x‖: the length carries no gradient.
        case tangential
        /// Another function: the margin is straight-through.
        case straightThrough
    }

    var testDescription: String { name }
}

private func arcValue(_ c: Double, _ m: Double) -> Double { cos(acos(c) + m) }
private func arcSlope(_ c: Double, _ m: Double) -> Double { sin(acos(c) + m) / sin(acos(c)) }

extension HeadCase {
    static let plainHeads: [HeadCase] = [
        HeadCase(
            name: "NormFace s16", margin: NormFace(scale: 16), dense: .target(scale: 16, { $0 }, slope: { _ in 1 }),
            expected: [8.9991148052, 4.1674001139, 3.4087239722, -0.3536252888, 0.3445099404, -0.1309789449]),
        HeadCase(
            name: "NormFace s64", margin: NormFace(scale: 64), dense: .target(scale: 64, { $0 }, slope: { _ in 1 }),
            expected: [35.0559326573, 19.8516633682, 15.6331235195, -3.0283727418, 1.3782854679, -0.6200851109]),
        HeadCase(
            name: "CosFace", margin: CosFace(margin: 0.35),
            dense: .target(scale: 64, { $0 - 0.35 }, slope: { _ in 1 }),
            expected: [55.4575274494, 23.7515841356, 18.7931511542, -3.0413975028, 1.3782854679, -0.6227427446]),
    ]

    static let angularHeads: [HeadCase] = [
        HeadCase(
            name: "ArcFace hard", margin: ArcFace(fallback: .hard),
            dense: .target(
                scale: 64, { acos($0) + 0.5 < .pi ? arcValue($0, 0.5) : $0 - 0.5 * sin(0.5) },
                slope: { acos($0) + 0.5 < .pi ? arcSlope($0, 0.5) : 1 }),
            expected: [61.1977536565, 23.1874191263, 18.4843805541, -3.1392800257, 1.3782854679, -0.5731261149]),
        HeadCase(
            name: "ArcFace plain", margin: ArcFace(fallback: .plain),
            dense: .target(scale: 64, { arcValue($0, 0.5) }, slope: { arcSlope($0, 0.5) }),
            expected: [57.2247576435, 23.1596155231, 18.7131569462, -3.1392800257, 1.2631407503, -0.5731261149]),
        HeadCase(
            name: "ArcFace easy", margin: ArcFace(fallback: .easy),
            dense: .target(
                scale: 64, { $0 > 0 ? arcValue($0, 0.5) : $0 }, slope: { $0 > 0 ? arcSlope($0, 0.5) : 1 }),
            expected: [58.1294302094, 23.1874191263, 18.4843805541, -3.1392800257, 1.3782854679, -0.5731261149]),
        HeadCase(
            name: "ArcFace plain, straight-through", margin: ArcFace(fallback: .plain, gradient: .straightThrough),
            dense: .target(scale: 64, { arcValue($0, 0.5) }, slope: { _ in 1 }),
            expected: [57.2247576435, 23.7515958540, 18.7931616629, -3.0413975028, 1.3782854679, -0.6227427446],
            derivative: .straightThrough),
        HeadCase(
            name: "combined (.9, .4, .15)", margin: CombinedMargin(multiplier: 0.9, angle: 0.4, offset: 0.15),
            dense: .target(
                scale: 64, { cos(0.9 * acos($0) + 0.4) - 0.15 },
                slope: { 0.9 * sin(0.9 * acos($0) + 0.4) / sin(acos($0)) }),
            expected: [55.9181255968, 22.5608812081, 17.9272791145, -3.1745611880, 1.3554033851, -0.5552421014]),
        HeadCase(
            name: "combined (1, .3, .2)", margin: CombinedMargin(multiplier: 1, angle: 0.3, offset: 0.2),
            dense: .target(scale: 64, { arcValue($0, 0.3) - 0.2 }, slope: { arcSlope($0, 0.3) }),
            expected: [60.8737229891, 23.6884632700, 18.9485958860, -3.0638993167, 1.3080805972, -0.6113365800]),
    ]

    /// With reference vectors.
    static let tabled = plainHeads + angularHeads + adaptiveHeads + multiplicativeHeads
    static let all = tabled + untabled
}
