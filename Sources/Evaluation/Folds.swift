/// The parts of a cross-validation: for each item the fold it is held out in.
package struct Folds: Sendable, Equatable, Codable {
    /// How the items came to their folds.
    package enum Rule: String, Sendable, Codable {
        /// Contiguous runs in the order of the list, unshuffled, the larger ones first (insightface).
        case contiguous
        /// As the data set's own list says (LFW's pairs.txt).
        case listed
    }

    package let count: Int
    package let rule: Rule
    /// Fold of each item, in 0..<count.
    package let assignment: [Int]

    /// Contiguous folds: the first `items % folds` of them hold one item more than the others.
    ///
    /// - Throws: `EvaluationError.tooFewItems`.
    package init(contiguous items: Int, folds: Int = 10) throws(EvaluationError) {
        precondition(folds > 1, "cross-validation needs at least two folds")
        guard items >= folds else { throw .tooFewItems(items: items, folds: folds) }
        count = folds
        rule = .contiguous
        assignment = (0..<folds).flatMap { fold in
            [Int](repeating: fold, count: items / folds + (fold < items % folds ? 1 : 0))
        }
    }

    /// Folds as a list gives them.
    ///
    /// - Throws: `EvaluationError.badFold` where a number is out of range or a fold is empty.
    package init(listed assignment: [Int], folds: Int = 10) throws(EvaluationError) {
        precondition(folds > 1, "cross-validation needs at least two folds")
        guard assignment.count >= folds else { throw .tooFewItems(items: assignment.count, folds: folds) }
        var sizes = [Int](repeating: 0, count: folds)
        for fold in assignment {
            guard (0..<folds).contains(fold) else { throw .badFold(fold: fold, folds: folds) }
            sizes[fold] += 1
        }
        if let empty = sizes.firstIndex(of: 0) { throw .badFold(fold: empty, folds: folds) }
        count = folds
        rule = .listed
        self.assignment = assignment
    }

    /// The number of items held out in each fold.
    package var sizes: [Int] {
        var sizes = [Int](repeating: 0, count: count)
        for fold in assignment { sizes[fold] += 1 }
        return sizes
    }
}
