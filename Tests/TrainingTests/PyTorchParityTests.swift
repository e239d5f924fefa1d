import Collectives
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Three training steps of whole networks in fp32 against PyTorch's in float64 (scripts/reference/pytorch_parity.py).
@Suite(.serialized) struct PyTorchParity {
    @Test(arguments: ["iresnet18", "mobilefacenet", "mbf"])
    func threeStepsAgree(_ name: String) throws {
        let reference = try ParityReference(named: name)
        let run = try ParityRun(name, seed: reference.seed)
        for (step, expected) in reference.losses.enumerated() {
            let loss = try run.step(step)
            let error = abs(loss - expected) / max(1, expected)
            #expect(error < 1e-4, "loss of step \(step + 1): \(loss), PyTorch \(expected)")
            if step == 0 { try check(run, reference, name) }
        }
    }

    /// The gradients of the first step, tensor by tensor.
    private func check(_ run: ParityRun, _ reference: ParityReference, _ network: String) throws {
        let gradients = run.gradients
        try #require(gradients.map(\.name) == reference.tensors.map(\.name))
        var rows: [(tensor: ParityReference.Tensor, error: Double)] = []
        for (index, (gradient, tensor)) in zip(gradients, reference.tensors).enumerated() {
            let values = gradient.values.floats
            if tensor.norm < 1e-7 * reference.globalNorm {
                // Zero by symmetry: what a norm right behind takes out again.
                let length = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
                #expect(length < 1e-6 * reference.globalNorm, "\(tensor.name) is \(length), PyTorch \(tensor.norm)")
                continue
            }
            let projections = ClosedForm.projections(
                of: values.baseAddress!, count: values.count, tensor: index, run.pool)
            // E[(s·d)²] = ‖d‖² for signs s: the mean of the squares estimates ‖ours − PyTorch's‖² without bias.
            let squares = zip(projections, tensor.projections).map { ($0 - $1) * ($0 - $1) }
            let error = (squares.reduce(0, +) / Double(squares.count)).squareRoot() / tensor.norm
            #expect(error < 1e-3, "gradient of \(tensor.name) differs by \(error)")
            rows.append((tensor, error))
        }
        report(rows, reference, network)
    }

    private func report(
        _ rows: [(tensor: ParityReference.Tensor, error: Double)], _ reference: ParityReference, _ network: String
    ) {
        func line(_ title: String, _ values: Double...) -> String {
            title.padding(toLength: 44, withPad: " ", startingAt: 0)
                + values.map { String(format: "%16.2e", $0) }.joined()
        }
        let title = "\(network): relative gradient errors".padding(toLength: 44, withPad: " ", startingAt: 0)
        var lines = [title + "          acuity    pytorch fp32  of global norm"]
        for row in rows.sorted(by: { $0.error > $1.error }).prefix(8) {
            lines.append(
                line("  \(row.tensor.name)", row.error, row.tensor.singleError, row.tensor.norm / reference.globalNorm))
        }
        let ours = rows.map(\.error).sorted()
        let theirs = rows.map(\.tensor.singleError).sorted()
        lines.append(line("  worst of \(rows.count) tensors", ours.last!, theirs.last!))
        lines.append(line("  median", ours[rows.count / 2], theirs[rows.count / 2]))
        print(lines.joined(separator: "\n"))
    }
}

/// What PyTorch computed.
private struct ParityReference: Decodable {
    struct Tensor: Decodable {
        var name: String
        var norm: Double
        var projections: [Double]
        /// ‖float32 − float64‖ / norm of PyTorch's own gradients.
        var singleError: Double

        enum CodingKeys: String, CodingKey {
            case name, norm, projections
            case singleError = "fp32_relative_error"
        }
    }

    /// Of the weights, chosen so that no activation lies within rounding of a PReLU's kink.
    var seed: UInt64
    var losses: [Double]
    var globalNorm: Double
    /// The trained parameters in the order of the state, then the class centres.
    var tensors: [Tensor]

    enum CodingKeys: String, CodingKey {
        case seed, losses, tensors
        case globalNorm = "global_norm"
    }

    init(named name: String) throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let data = try Data(contentsOf: folder.appendingPathComponent("Fixtures/parity/\(name).json"))
        self = try JSONDecoder().decode(Self.self, from: data)
    }
}

/// Our side: the trainer's own step on one rank, ArcFace, SGD without clipping.
private final class ParityRun {
    let pool = ThreadPool()
    private let network: Network
    private let classifier: ShardedClassifier<Float>
    private let training: TrainingStep
    private let images: Tensors.Tensor

    init(_ name: String, seed: UInt64) throws {
        network = try NetworkSpecification(name).build()
        network.initialize(seed: 1)
        for (index, parameter) in network.parameters.enumerated() where parameter.isTrained {
            ClosedForm.fill(parameter, seed: seed, place: UInt64(index + 1))
        }
        let communicator = SoloCommunicator()
        let dimension = network.specification.embeddingSize
        classifier = ShardedClassifier<Float>(
            classes: ClosedForm.classes, dimension: dimension, batch: ClosedForm.batch,
            margin: ArcFace(margin: 0.5, scale: 64, fallback: .hard, gradient: .exact), communicator: communicator,
            pool: pool, seed: 1)
        classifier.load(
            0..<ClosedForm.classes,
            centres: Tensor([ClosedForm.classes, dimension], ClosedForm.centres(dimension: dimension)))

        var recipe = Recipe()
        recipe.optimizer.learningRate = 0.01
        recipe.optimizer.momentum = 0.9
        recipe.optimizer.weightDecay = 5e-4
        recipe.optimizer.decayExempt = []
        recipe.optimizer.clipNorm = 0
        // A constant rate.
        recipe.schedule.power = 0
        let schedule = LearningRateSchedule(
            recipe.schedule, recipe.optimizer, globalBatch: ClosedForm.batch, stepsPerEpoch: 1)
        training = try TrainingStep(
            network: network, objective: MarginClassification(classifier, pool: pool), communicator: communicator,
            pool: pool, batch: ClosedForm.batch, recipe: recipe, schedule: schedule)
        images = Tensor([ClosedForm.batch, 3, 112, 112], ClosedForm.images())
    }

    /// Performs the update that follows `step` others; returns its loss.
    func step(_ step: Int) throws -> Double {
        let report = try training.update(step: step, count: 1, flags: { StepFlags() }) { _ in
            StepInput(images: images, labels: ClosedForm.labels, records: Array(0..<8))
        }
        #expect(report.learningRate == 0.01)
        return report.loss
    }

    /// The last step's gradients, in the order of the reference.
    var gradients: [(name: String, values: Tensors.Tensor)] {
        network.parameters.filter(\.isTrained).map { ($0.name, $0.gradient!) } + [("centres", classifier.gradient)]
    }
}
