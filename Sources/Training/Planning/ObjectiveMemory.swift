import Objectives
import Recipes

/// Bytes of one rank that objectives take beside the head.
struct ObjectiveMemory {
    /// Embeddings of former updates, which a copy for a checkpoint holds again.
    var queues = 0
    var scratch = 0

    /// - Parameters:
    ///   - dimension: d.
    ///   - classes: of all ranks.
    init(_ objectives: ObjectivesSection, dimension d: Int, classes: Int, placement: Placement) {
        let batch = placement.batch
        // Rows of two views over all ranks.
        let rows = 2 * batch * placement.ranks
        let ownClasses = (classes + placement.ranks - 1) / placement.ranks
        func block(of columns: Int) -> Int { rows * ColumnBlocks.width(rows: rows, of: columns) }
        var (queued, values) = (0, 0)
        if let section = objectives.resolution {
            values += (rows + 3 * batch) * d
            if section.cross == .relation || section.cross == .contrast {
                queued += section.queue * d
                values += 2 * batch * section.queue
            }
            if section.targets == .soft { values += (rows + rows / 2) * d + ownClasses + block(of: ownClasses) * 3 / 2 }
        }
        if let section = objectives.contrast, section.weight > 0 {
            let entries = (section.queue + placement.ranks - 1) / placement.ranks
            queued += 2 * entries * d
            values += (2 * rows + 2 * batch) * d + block(of: entries)
            values += ColumnBlocks.width(rows: rows, of: entries) * d
            if section.keys == .momentum { values += rows * d }
        }
        if let section = objectives.distillation, section.weight > 0, section.logits > 0 {
            values += (2 * rows + 2 * batch) * d + block(of: ownClasses)
        }
        (queues, scratch) = (4 * queued, 4 * values)
    }
}
