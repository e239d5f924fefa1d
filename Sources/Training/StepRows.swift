import Layers
import Objectives
import Tensors

/// The rows of a step: what the objective sees of all views together, made once and used again.
///
/// With a single pass its embeddings and gradient are the objective's own; several passes are copied together.
final class StepRows {
    let taps: [TapMaps]
    /// Of the classified rows, for the gather that runs beside forward.
    var classifiedLabels: UnsafeBufferPointer<Int> { .init(rebasing: labels[..<classifiedCount]) }
    var classifiedRecords: UnsafeBufferPointer<Int> { .init(rebasing: records[..<classifiedCount]) }

    private let demand: StepDemand
    private let batch: Int
    private let embeddings: Tensor
    private let gradient: Tensor
    private let classified: (embeddings: Tensor, gradient: Tensor)
    private let teacher: Tensor?
    private let isCopied: Bool
    /// V·B each.
    private let labels: UnsafeMutableBufferPointer<Int>
    private let records: UnsafeMutableBufferPointer<Int>

    init(_ demand: StepDemand, batch: Int, _ executions: [Execution]) {
        self.demand = demand
        self.batch = batch
        isCopied = executions.count > 1
        let graph = executions[0].graph
        let dimension = graph.shape(graph.output).channels
        let count = demand.views * batch
        embeddings = isCopied ? Tensor([count, dimension]) : executions[0].embeddings
        gradient = isCopied ? Tensor([count, dimension]) : executions[0].outputGradient
        let rows = demand.classified * batch
        teacher = demand.teacher.isEmpty ? nil : Tensor([rows, dimension])
        func first(_ tensor: Tensor) -> Tensor {
            rows == count ? tensor : tensor.rows(0..<rows)
        }
        classified = (first(embeddings), first(gradient))
        taps = demand.taps.map { name in
            let shape = graph.shape(graph.taps[name]!)
            return TapMaps(name, rows: count, positions: shape.height * shape.width)
        }
        labels = .allocate(capacity: count)
        records = .allocate(capacity: count)
        labels.initialize(repeating: 0)
        records.initialize(repeating: 0)
    }

    deinit {
        labels.deallocate()
        records.deallocate()
    }

    private var classifiedCount: Int { demand.classified * batch }

    /// Labels and records of the next micro-batch.
    func take(_ input: StepInput) {
        for view in 0..<demand.views {
            for row in 0..<batch { labels[view * batch + row] = input.labels[row] }
        }
        for row in records.indices { records[row] = input.records[row] }
    }

    /// The teacher's embeddings of some views.
    func keepTeacher(_ output: Tensor, _ views: Range<Int>) {
        guard let teacher else { return }
        let dimension = teacher.shape[1]
        precondition(
            output.count == views.count * batch * dimension, "a teacher with embeddings of another length")
        (teacher.pointer + views.lowerBound * batch * dimension).update(from: output.pointer, count: output.count)
    }

    /// The teacher's embeddings of the first view.
    func keepTeacher(_ cache: TeacherCache, mirrored: [Bool]) {
        guard let teacher else { return }
        for row in 0..<batch {
            cache.copy(record: records[row], mirrored: mirrored[row], to: teacher.pointer + row * teacher.shape[1])
        }
    }

    /// What a pass has made of its views.
    func collect(_ output: Tensor, _ views: Range<Int>) {
        guard isCopied else { return }
        let dimension = embeddings.shape[1]
        let count = views.count * batch * dimension
        (embeddings.pointer + views.lowerBound * batch * dimension).update(from: output.pointer, count: count)
    }

    func clearGradients() {
        gradient.fill(0)
        for tap in taps { tap.gradient.fill(0) }
    }

    /// An injected fault: backward starts from a value that is no number.
    func poison() { gradient.pointer[0] = .nan }

    func pass(step: Int) -> ObjectivePass {
        ObjectivePass(
            embeddings: embeddings, embeddingGradient: gradient, classified: classified, batch: batch,
            labels: .init(rebasing: labels[..<batch]), records: UnsafeBufferPointer(records), taps: taps, teacher: teacher,
            step: step)
    }

    /// Gives a pass's execution the gradient of its embeddings.
    func hand(_ execution: Execution, _ views: Range<Int>) {
        guard isCopied else { return }
        let dimension = embeddings.shape[1]
        let count = views.count * batch * dimension
        execution.outputGradient.pointer.update(
            from: gradient.pointer + views.lowerBound * batch * dimension, count: count)
    }
}
