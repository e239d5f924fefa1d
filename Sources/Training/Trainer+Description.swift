import Collectives
import FaceData
import Layers
import Logging
import Networks
import Objectives
import Recipes
import Tensors

extension Trainer {
    /// What a user should know before the first step: everything that was counted or derived.
    func describe(overfit: Int?) {
        let communicator = environment.communicator
        info(
            "\(communicator.size) rank(s) on \(communicator.topology.hosts) host(s), \(environment.pool.threads) thread(s) each, "
                + "gradients \(step.reducer.route.rawValue)")
        describeData()
        let millions = Double(network.parameterCount) / 1e6
        info(
            "\(recipe.network.name): \((millions * 100).rounded() / 100) M parameters, "
                + "\(step.execution.byteCount >> 20) MiB of activations and scratch per rank")
        for group in step.arena.groupDescriptions { info("group: \(group)") }
        let headDecay = recipe.optimizer.decayExempt.contains("head") ? 0 : recipe.optimizer.weightDecay
        info(
            "head: \(recipe.head.summary), \(source.classCount) centres, weight decay "
                + "\(headDecay)" + (head.classifier.isFrozen ? ", frozen" : ""))
        if !objective.classifies { info("nothing is classified: the centres take no part") }
        describeSampling()
        if let augmentation = RunSetup.augmentation(recipe) { info(augmentation) }
        describeSchedule()
        describeCheckpoints()
        if let overfit { warning("--overfit: only \(min(overfit, source.count)) different images, again and again") }
        warn()
    }

    /// Says on rank 0 how the run ended.
    package func conclude(_ ending: String) {
        if environment.isRoot {
            info("\(recipe.run.folder): step \(state.step) of \(step.schedule.totalSteps), \(ending)")
        }
    }

    private func info(_ text: String) { environment.logger.info("\(text)") }
    private func warning(_ text: String) { environment.logger.warning("\(text)") }

    /// What the class centres of a new run come from.
    func describe(_ start: HeadStart) {
        guard environment.isRoot, let path = recipe.start.head else { return }
        let new = source.classCount - start.keptCount
        let how =
            recipe.start.newClasses == .random
            ? "random" : "means of up to \(HeadStart.imagesPerClass) embeddings of each"
        info(
            "centres from \(path): \(start.keptCount) identities kept, \(new) new (\(how)), \(start.dropped) dropped")
        if source.namesAreNumbers, start.keptCount > 0 {
            warning(
                "\(source.location) knows its identities by number: those kept are the same people only if both data sets "
                    + "number them alike")
        }
    }

    private func describeSampling() {
        let sampling = recipe.head.sampling
        let classifier = head.classifier
        if !classifier.comparesEveryClass {
            info(
                "each step compares with the classes of its batch and a share of \(sampling.rate) of the others "
                    + "(\(sampling.mode.rawValue), \(sampling.momentum.rawValue)): room for \(classifier.rowCapacity) of "
                    + "\(classifier.classRange.count) centres on this rank; the accuracy is over the sample")
        }
        if recipe.head.storage == .file {
            let bytes = classifier.centres.byteCount + classifier.momentum.byteCount
            info(
                "centres and momentum lie in files of \(recipe.head.storageFolder ?? recipe.run.folder): "
                    + "\(bytes >> 20) MiB on this rank")
        }
    }

    private func describeSchedule() {
        let schedule = step.schedule
        let optimizer = recipe.optimizer
        let rule =
            optimizer.scaling == .none
            ? "as stated, whatever the batch"
            : "\(optimizer.learningRate) per \(optimizer.referenceBatch) images, scaled \(optimizer.scaling.rawValue)ly"
        info(
            "global batch \(recipe.batch.global) in \(recipe.batch.accumulation) pass(es), "
                + "\(max(1, sampler.stepsPerEpoch / recipe.batch.accumulation)) updates per epoch, \(totalSteps) in all; "
                + "learning rate \(schedule.base) (\(rule)), \(schedule.kind.rawValue), \(schedule.warmupSteps) warm-up updates"
        )
    }

    private func describeCheckpoints() {
        let checkpoint = recipe.checkpoint
        var when: [String] = []
        if let every = checkpoint.everySteps { when.append("every \(every) updates") }
        if let best = checkpoint.keepBest { when.append("at the best accuracy on \(best)") }
        if when.isEmpty { return }
        let stays = checkpoint.keepEvery.map { ", those of every \($0) updates" } ?? ""
        let how =
            RunSetup.savesBehind(recipe)
            ? "written from a copy while training goes on" : "written while training waits"
        info(
            "checkpoints \(when.joined(separator: " and ")), \(how); the newest \(checkpoint.keep) stay\(stays)"
                + (checkpoint.keepBest == nil ? "" : ", and the best"))
    }

    private func warn() {
        let bound = RunSetup.scaleBound(classes: source.classCount)
        if let scale = recipe.head.margin.scale, scale < bound {
            warning(
                "head.scale = \(scale) is too small for \(source.classCount) classes: even perfect embeddings "
                    + "cannot reach a probability of 0.9 below s = \((bound * 10).rounded() / 10)")
        }
        let margin = head.classifier.margin
        if let magFace = ((margin as? InterclassFilter)?.base ?? margin) as? MagFace,
            magFace.penaltyWeight < magFace.penaltyBound
        {
            warning(
                "head.penalty = \(magFace.penaltyWeight) is less than \((magFace.penaltyBound * 10).rounded() / 10), "
                    + "from which on longer embeddings are not always better (MagFace, s·K·u²l²/(u² − l²))")
        }
        var counts = [Int](repeating: 0, count: source.classCount)
        for index in 0..<source.count { counts[source.label(of: index)] += 1 }
        let single = counts.filter { $0 < 2 }.count
        if single > 0 {
            warning("\(single) of \(counts.count) identities have fewer than two images")
        }
    }
}
