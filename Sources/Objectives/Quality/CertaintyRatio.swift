/// How well a sample is classified relative to its nearest other class (Boutros et al., "CR-FIQA", CVPR 2023): what its
/// quality is learnt from. Both cosines are raw, without margin or scale.
package enum CertaintyRatio: String, Sendable, CaseIterable {
    /// own / (nearest + 1 + 1e-9), as published: bounded.
    case paper
    /// own / nearest, as the authors' released training has it, where the nearest other cosine is at least −1e-12.
    case code

    /// - Parameters:
    ///   - own: cosine to the centre of the own class.
    ///   - nearest: largest cosine to another centre.
    package func value(own: Double, nearest: Double) -> Double {
        switch self {
        case .paper: own / (nearest + 1 + 1e-9)
        case .code: own / max(nearest, -1e-12)
        }
    }
}

/// ½δ²/β where |δ| < β, |δ| − β/2 elsewhere.
package struct SmoothL1: Sendable {
    package let beta: Double

    package init(beta: Double) {
        precondition(beta > 0, "β = \(beta)")
        self.beta = beta
    }

    package func value(_ difference: Double) -> Double {
        let size = abs(difference)
        return size < beta ? 0.5 * size * size / beta : size - beta / 2
    }

    /// With respect to the difference.
    package func slope(_ difference: Double) -> Double { max(-1, min(1, difference / beta)) }
}
