/// Which class centres take part in a step (An et al., "Partial FC", ICCVW 2021): every class of the global batch, and a
/// share of the others drawn anew in each step.
package struct ClassSampling: Sendable, Equatable {
    package enum Mode: Sendable {
        /// Class c is drawn iff u(seed, step, c) < rate, by the global class index: the same sample on any number of
        /// ranks.
        case keyed
        /// arcface_torch's: each rank takes a fixed number of its classes, max(int(rate · C_local), positives), the
        /// positives first. What is drawn depends on the number of ranks.
        case reference
    }

    /// What happens to the rows that are not in the sample.
    package enum Momentum: Sendable {
        /// Nothing: rows and momentum stay as they are.
        case sparse
        /// They move by weight decay and by their momentum, as with a gradient of zero.
        case dense
    }

    /// ρ, the share of classes, in (0, 1].
    package var rate: Double
    package var mode: Mode
    package var momentum: Momentum

    package init(rate: Double, mode: Mode = .keyed, momentum: Momentum = .sparse) {
        precondition(rate > 0 && rate <= 1, "a sampling rate of \(rate)")
        self.rate = rate
        self.mode = mode
        self.momentum = momentum
    }

    /// How many rows buffers are made for.
    ///
    /// keyed: ρ·C_local, six standard deviations of the binomial, and every row of the batch a positive. Where ρ·C_local
    /// is large it is exceeded once in about 10⁹ steps, and then the buffers grow. reference: exactly the most that there
    /// can be.
    ///
    /// - Parameters:
    ///   - classes: C_local.
    ///   - positives: the most rows of the global batch that may have different classes.
    package func capacity(classes: Int, positives: Int) -> Int {
        let count = Double(classes)
        switch mode {
        case .keyed:
            let deviation = (count * rate * (1 - rate)).squareRoot()
            return min(classes, Int((rate * count + 6 * deviation).rounded(.up)) + positives)
        case .reference:
            return min(classes, max(fixedCount(classes: classes), positives))
        }
    }

    /// k = int(ρ·C_local) of the reference mode.
    package func fixedCount(classes: Int) -> Int { Int(rate * Double(classes)) }
}
