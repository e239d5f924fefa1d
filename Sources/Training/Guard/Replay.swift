import Artifacts
import Layers
import Networks
import Objectives
import Recipes
package import Tensors

/// Computes a refused update once more, on one rank, and finds the first value that is not finite.
package struct Replay {
    /// Where a value that is not finite was seen.
    package struct Finding: Sendable, Equatable, Codable {
        /// In the order in which an update computes them.
        package enum Stage: String, Sendable, Codable, CaseIterable {
            case parameter, centre, image, forward, head, backward
        }

        package var stage: Stage
        /// The rank and pass whose images show it; nil for what does not hang on images.
        package var rank: Int?
        package var pass: Int?
        /// The parameter, the layer, the record's key.
        package var name: String
        /// The element.
        package var place: String?

        package var description: String {
            let whose = [rank.map { "rank \($0)" }, pass.map { "pass \($0)" }, place].compactMap { $0 }
            let suffix = whose.isEmpty ? "" : " (\(whose.joined(separator: ", ")))"
            let what =
                switch stage {
                case .parameter: "parameter '\(name)' was not finite before the update"
                case .centre: "\(name) was not finite before the update"
                case .image: "the image of \(name)"
                case .forward: "forward: the output of layer '\(name)'"
                case .head: "the head: \(name)"
                case .backward: "backward: \(name)"
                }
            return what + suffix
        }
    }

    package let incident: Incident
    /// The first finding of each rank and pass, in the order of their stages.
    package private(set) var findings: [Finding] = []
    /// Embeddings that came out differently than in the run: another machine, another number of threads.
    package private(set) var largestDifference = 0.0

    private let network: Network
    private let recipe: Recipe
    private let demand: StepDemand
    private let folder: String
    private let executions: [Execution]

    /// Opens the bundle `folder`.
    ///
    /// - Throws: `ArtifactError`; `RecipeError`; `NetworkError`; `TrainingError`.
    package init(_ folder: String, pool: ThreadPool) throws {
        self.folder = folder
        let incident = try Incident(folder: folder)
        self.incident = incident
        let recipe = try Recipe(files: [folder + "/" + Incident.recipeFile], overrides: [])
        self.recipe = recipe
        let network = try RunSetup.network(recipe)
        try ModelFile.load(WeightsFile(folder + "/" + Incident.modelFile), into: network)
        self.network = network
        let demand = try RunSetup.demand(recipe)
        self.demand = demand
        let batch = incident.batch
        let most = 1_000_000
        guard (1...most).contains(batch), (1...most).contains(incident.passes), (1...most).contains(incident.ranks),
            incident.shares.allSatisfy({ (0..<incident.ranks).contains($0.rank) }), incident.step > 0,
            let share = incident.shares.first
        else { throw ArtifactError.damaged(path: folder + "/" + Incident.file, reason: "its counts are out of range") }
        // A batch that is not in the bundle must not become memory.
        let file = try SafetensorsFile(folder + "/" + Incident.rankFile(share.rank))
        guard try file.tensor(Incident.images(0)).shape.first == demand.views * batch else {
            throw ArtifactError.damaged(path: file.path, reason: "its images are not \(demand.views * batch)")
        }
        for parameter in network.parameters where parameter.isTrained { parameter.gradient = Tensor(parameter.shape) }
        executions = demand.passes.map { views in
            Execution(
                network.graph, batch: views.count * batch, purpose: .training,
                precision: RunSetup.precision(recipe.compute), pool: pool)
        }
    }

    /// The first of all findings.
    package var first: Finding? { findings.first }

    /// - Parameter rank: whose images are computed; nil for every rank's.
    /// - Throws: `ArtifactError`.
    package mutating func run(rank: Int? = nil) throws {
        for parameter in network.parameters where !parameter.value.floats.allSatisfy(\.isFinite) {
            findings.append(Finding(stage: .parameter, name: parameter.name))
            break
        }
        for share in incident.shares {
            guard let centre = share.badCentre else { continue }
            findings.append(Finding(stage: .centre, rank: share.rank, name: "the centre of class \(centre)"))
        }
        for share in incident.shares where rank == nil || share.rank == rank {
            let file = try SafetensorsFile(folder + "/" + Incident.rankFile(share.rank))
            for pass in 0..<incident.passes {
                if let finding = try compute(share, pass: pass, file) { findings.append(finding) }
            }
        }
        let order = Finding.Stage.allCases
        findings.sort { order.firstIndex(of: $0.stage)! < order.firstIndex(of: $1.stage)! }
    }

    /// One pass of one rank; stops at the first value that is not finite.
    private mutating func compute(_ share: Incident.Share, pass: Int, _ file: SafetensorsFile) throws -> Finding? {
        let rows = demand.views * incident.batch
        let shape = network.specification.inputShape
        let images = try tensor(
            Incident.images(pass), [rows, shape.channels, shape.height, shape.width], in: file)
        let embeddings = try tensor(Incident.embeddings(pass), [rows, recipe.network.embedding], in: file)
        let gradient = try tensor(Incident.gradient(pass), [rows, recipe.network.embedding], in: file)
        func found(_ stage: Finding.Stage, _ name: String, _ place: String? = nil) -> Finding {
            Finding(stage: stage, rank: share.rank, pass: pass, name: name, place: place)
        }
        if let bad = images.floats.firstIndex(where: { !$0.isFinite }) {
            return found(.image, key(share, pass: pass, row: bad / shape.count))
        }
        for (execution, views) in zip(executions, demand.passes) {
            let first = views.lowerBound * incident.batch
            let count = views.count * incident.batch
            var bad: Inspection?
            execution.inspect = { if bad == nil, $0.place != nil { bad = $0 } }
            defer { execution.inspect = nil }
            let output = execution.forward(
                images.pointer + first * shape.count, count: count, mode: mode,
                key: .init(
                    seed: incident.seed, step: UInt64(incident.step - 1), firstImage: firstImage(views, share, pass)))
            if let bad, let place = bad.place {
                let name = key(share, pass: pass, row: first + place.image)
                return found(.forward, network.graph.steps[bad.step].name, "\(place), \(name)")
            }
            compare(output, embeddings.rows(first..<first + count))
        }
        if let bad = gradient.floats.firstIndex(where: { !$0.isFinite }) {
            let row = bad / recipe.network.embedding
            return found(.head, "the gradient of the embedding of \(key(share, pass: pass, row: row))")
        }
        for (execution, views) in zip(executions, demand.passes) {
            if let finding = backward(execution, views, gradient, found) { return finding }
        }
        return nil
    }

    /// - Parameter gradient: of all rows' embeddings.
    private func backward(
        _ execution: Execution, _ views: Range<Int>, _ gradient: Tensor,
        _ found: @escaping (Finding.Stage, String, String?) -> Finding
    ) -> Finding? {
        let first = views.lowerBound * incident.batch
        let count = views.count * incident.batch
        execution.outputGradient.bytes.copyMemory(
            from: UnsafeRawBufferPointer(gradient.rows(first..<first + count).bytes))
        var result: Finding?
        let steps = network.graph.steps
        execution.inspect = { inspection in
            guard result == nil else { return }
            let step = steps[inspection.step]
            for parameter in step.layer.parameters where parameter.isTrained {
                if let gradient = parameter.gradient, !gradient.floats.allSatisfy(\.isFinite) {
                    result = found(.backward, "the gradient of '\(parameter.name)' in layer '\(step.name)'", nil)
                    return
                }
            }
            if let place = inspection.place {
                result = found(.backward, "the gradient that layer '\(step.name)' hands down", "\(place)")
            }
        }
        defer { execution.inspect = nil }
        execution.backward()
        return result
    }

    /// As in the run: a backbone of which nothing trains computes as in use.
    private var mode: Mode { network.graph.parameters.contains { $0.isTrained } ? .training : .evaluation }

    /// The place of a pass's first image among all images of the update (`TrainingStep`).
    private func firstImage(_ views: Range<Int>, _ share: Incident.Share, _ pass: Int) -> UInt64 {
        let before = views.lowerBound * incident.passes * incident.ranks
        return UInt64((before + (pass * incident.ranks + share.rank) * views.count) * incident.batch)
    }

    private func tensor(_ name: String, _ shape: [Int], in file: SafetensorsFile) throws -> Tensor {
        let tensor = try file.tensor(name)
        guard tensor.shape == shape, tensor.dtype == .float32 else {
            throw ArtifactError.incompatible(path: file.path, reason: "'\(name)' is \(tensor.shape), expected \(shape)")
        }
        return tensor
    }

    private func key(_ share: Incident.Share, pass: Int, row: Int) -> String {
        guard pass < share.keys.count, row < share.keys[pass].count else { return "row \(row)" }
        return "'\(share.keys[pass][row])'"
    }

    private mutating func compare(_ ours: Tensor, _ theirs: Tensor) {
        for (a, b) in zip(ours.floats, theirs.floats) where b.isFinite {
            largestDifference = max(largestDifference, Double(abs(a - b)))
        }
    }
}
