import Layers
import Networks
import Objectives
package import Recipes

/// What a recipe would need and take, without training.
package struct RunPlan: Sendable {
    package let recipe: Recipe
    package let placement: Placement
    package let classes: Int
    /// Images of an epoch.
    package let images: Int
    package let workload: StepWorkload
    package let memory: MemoryEstimate

    /// - Throws: `NetworkError`.
    package init(_ recipe: Recipe, _ placement: Placement, classes: Int, images: Int, base: Int) throws {
        self.recipe = recipe
        self.placement = placement
        self.classes = classes
        self.images = images
        let network = try RunSetup.network(recipe)
        let layout = ArenaLayout(network.graph, bucketBytes: Int(recipe.compute.bucketMiB * 1_048_576))
        try RunSetup.check(recipe)
        let demand = try RunSetup.demand(recipe)
        workload = StepWorkload(
            classes: classes, dimension: recipe.network.embedding, accumulation: recipe.batch.accumulation,
            views: demand.views, classified: demand.classified,
            taught: demand.taughtViews(knowsFirst: RunSetup.cachesTeacher(recipe)).count, parameters: layout.count,
            buckets: layout.buckets.map(\.count), bucketAfterStep: layout.bucketAfterStep,
            overlaps: recipe.compute.overlap)
        memory = MemoryEstimate(recipe, network, demand, classes: classes, placement: placement, base: base)
    }

    /// Seconds of an update, part by part.
    package func prediction(_ rates: MachineRates, _ network: NetworkModel) -> StepPrediction {
        StepPrediction(workload, placement, rates, network)
    }

    /// One line of how a run grows.
    package struct Scaling: Sendable, Equatable {
        package var ranks: Int
        package var hosts: Int
        package var step: StepPrediction
        package var imagesPerSecond: Double
        package var epochSeconds: Double
        /// Images per second and rank, relative to one rank.
        package var efficiency: Double
    }

    /// The run at 1, 2, 4, … ranks up to `most`, each with this placement's images, threads and ranks per host.
    package func scaling(_ rates: MachineRates, _ network: NetworkModel, most: Int = 1024) -> [Scaling] {
        var result: [Scaling] = []
        var ranks = 1
        while ranks <= most {
            let placement = Placement(
                ranks: ranks, ranksPerHost: placement.ranksPerHost, threads: placement.threads, batch: placement.batch)
            let step = StepPrediction(workload, placement, rates, network)
            let perSecond = Double(placement.globalBatch * workload.accumulation) / step.total
            result.append(
                Scaling(
                    ranks: ranks, hosts: placement.hosts, step: step, imagesPerSecond: perSecond,
                    epochSeconds: Double(images) / perSecond,
                    efficiency: perSecond / Double(ranks) / (result.first?.imagesPerSecond ?? perSecond)))
            ranks *= 2
        }
        return result
    }
}
