/// The distance of the student's spatial energies from the teacher's at one tap (QSD; authors' code):
/// amp · MSE(a_S, a_T) over all positions of all K pairs of the global batch, amp = 2 / (max a_S − min a_S).
package enum EnergyDistillation {
    /// What one rank adds to the tap's loss.
    package struct Share: Sendable, Equatable {
        /// Of the student's energies.
        package var maximum = -Double.infinity
        package var minimum = Double.infinity
        /// Σ (a_S − a_T)².
        package var squares = 0.0
        /// Entries that equal the global maximum and minimum: they share its gradient.
        package var maxima = 0.0
        package var minima = 0.0

        package init() {}
    }

    /// The tap's constants of a step.
    package struct Scale: Sendable, Equatable {
        package var amplification: Double
        /// dL/d(max a_S) and dL/d(min a_S); 0 where the amplification counts as constant.
        package var maximumSlope: Double
        package var minimumSlope: Double
        package var loss: Double

        /// - Parameters:
        ///   - total: the ranks' shares together.
        ///   - entries: K · positions.
        ///   - differentiates: whether the amplification has a gradient, as in the authors' code.
        package init(_ total: Share, entries: Int, differentiates: Bool) {
            let range = total.maximum - total.minimum
            // Constant maps of the student tell nothing.
            amplification = 2 / max(range, 1e-12)
            let mean = total.squares / Double(entries)
            loss = amplification * mean
            let slope = differentiates && range > 1e-12 ? loss / range : 0
            maximumSlope = total.maxima > 0 ? -slope / total.maxima : 0
            minimumSlope = total.minima > 0 ? slope / total.minima : 0
        }
    }

    /// The range of one student's energies.
    package static func extend<Value: BinaryFloatingPoint>(
        _ share: inout Share, student: UnsafePointer<Value>, positions: Int
    ) {
        for i in 0..<positions {
            let value = Double(student[i])
            if value > share.maximum { share.maximum = value }
            if value < share.minimum { share.minimum = value }
        }
    }

    /// The squares of one pair, and how often it has the extremes of the global batch.
    package static func add<Value: BinaryFloatingPoint>(
        _ share: inout Share, student: UnsafePointer<Value>, teacher: UnsafePointer<Value>, positions: Int,
        maximum: Double, minimum: Double
    ) {
        for i in 0..<positions {
            let value = Double(student[i])
            let difference = value - Double(teacher[i])
            share.squares += difference * difference
            if value == maximum { share.maxima += 1 }
            if value == minimum { share.minima += 1 }
        }
    }

    /// Adds factor · dL/d(a_S) of one pair to `gradient`; the teacher has none.
    package static func differentiate<Value: BinaryFloatingPoint>(
        _ scale: Scale, factor: Double, entries: Int, student: UnsafePointer<Value>, teacher: UnsafePointer<Value>,
        positions: Int, maximum: Double, minimum: Double, into gradient: UnsafeMutablePointer<Value>
    ) {
        let slope = 2 * scale.amplification / Double(entries)
        for i in 0..<positions {
            let value = Double(student[i])
            var sum = slope * (value - Double(teacher[i]))
            if value == maximum { sum += scale.maximumSlope }
            if value == minimum { sum += scale.minimumSlope }
            gradient[i] += Value(factor * sum)
        }
    }
}

/// 1 − cos(teacher, student), as PyTorch's `cosine_similarity` has it: norms of at least 1e-6.
package enum CosineDistillation {
    private static let least = 1e-6

    package struct Products: Sendable {
        /// t·s, t·t, s·s.
        package var mixed: Double
        package var teacher: Double
        package var student: Double

        package init(mixed: Double, teacher: Double, student: Double) {
            self.mixed = mixed
            self.teacher = teacher
            self.student = student
        }

        package init<Value: BinaryFloatingPoint>(
            teacher t: UnsafePointer<Value>, student s: UnsafePointer<Value>, count: Int
        ) {
            var (ts, tt, ss) = (0.0, 0.0, 0.0)
            for i in 0..<count {
                let (x, y) = (Double(t[i]), Double(s[i]))
                ts += x * y
                tt += x * x
                ss += y * y
            }
            self.init(mixed: ts, teacher: tt, student: ss)
        }

        private var teacherNorm: Double { max(teacher.squareRoot(), CosineDistillation.least) }
        private var studentNorm: Double { max(student.squareRoot(), CosineDistillation.least) }
        package var cosine: Double { mixed / (teacherNorm * studentNorm) }
        /// d(1 − cos)/ds = teacherFactor · t + studentFactor · s.
        package var teacherFactor: Double { -1 / (teacherNorm * studentNorm) }
        package var studentFactor: Double {
            student.squareRoot() > CosineDistillation.least ? cosine / student : 0
        }
    }
}
