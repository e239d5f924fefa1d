import Foundation
import Recipes
import Testing

/// A recipe written out reads back as the same recipe.
@Suite struct RecipeYAMLTests {
    private static let configs: [String] = {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../configs").standardized
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { $0.hasSuffix(".yaml") }.sorted().map { folder.path + "/" + $0 }
    }()

    private func read(_ yaml: String) throws -> Recipe {
        var tree = ConfigTree()
        try tree.merge(yaml: yaml, name: "written.yaml")
        return try Recipe(tree)
    }

    @Test func defaultsSurvive() throws { #expect(try read(Recipe().yaml) == Recipe()) }

    @Test func everyValueSurvives() throws {
        let recipe = try Recipe(
            files: [],
            overrides: [
                "run.folder='runs/a: b # c'", "run.seed=9223372036854775807", "data.train='null'", "data.folder='007'",
                "data.channel_order=bgr", "data.synthetic={identities: 7, variation: 0.3, first_identity: 9}",
                "network={name: ir50, embedding: 256, input: [112, 96], width: 1, dropout: 0.4}",
                "head={margin: combined, scale: 30.5, m1: 0.9, m2: 0.4, m3: 0.15}",
                "head={gradient: straight_through, centres: unit_uniform, filter: 0.4}",
                "head.sampling={rate: 0.25, mode: reference, momentum: dense}", "head.storage=file",
                "head.storage_folder='/scratch: 1'",
                "optimizer={learning_rate: 1e-7, scaling: sqrt, decay_exempt: [norm, head], clip_norm: null}",
                "schedule={kind: steps, milestones: [3, 5], epochs: 0.1, warmup_steps: 3, max_steps: 9, max_time: 10m}",
                "batch={global: 12, accumulation: 3}",
                "init={weights: 'true', freeze: [conv1, head], match: partial}",
                "init.learning_rate_factors={head: 0.1, a.b: 2}",
                "evaluation={every_steps: 5, at_start: true}",
                "evaluation.sets=[{path: a.bin, degrade: '16', sides: one, up: linear}, {path: b.bin}]",
                "checkpoint={every_steps: 2, keep: 9}", "run.check_every=0", "compute.collective_timeout=45",
                "stability={policy: skip, skip_limit: 3, rollback_limit: 2, spike_factor: 2.5, spike_window: 20}",
                "compute={precision: bf16, threads: 3, messages: bf16, bucket_mib: 0.5}",
            ])
        #expect(recipe.data.train == "null" && recipe.start.weights == "true" && recipe.data.folder == "007")
        #expect(recipe.start.learningRateFactors == ["head": 0.1, "a.b": 2])
        let written = try read(recipe.yaml)
        #expect(written == recipe)
        #expect(written.yaml == recipe.yaml)
    }

    @Test func adamSurvives() throws {
        let recipe = try Recipe(
            files: [],
            overrides: [
                "optimizer={kind: adam, learning_rate: 1e-4, beta1: 0.8, beta2: 0.99, epsilon: 1e-6, clip_norm: null}",
                "objectives.sdd_fiqa={qualities: q.tsv, beta: 0.02, dropout: 0.1, missing: ignore}",
            ])
        #expect(recipe.optimizer.beta2 == 0.99 && recipe.optimizer.epsilon == 1e-6 && recipe.freezesHead)
        #expect(try read(recipe.yaml) == recipe)
    }

    @Test func severalSourcesSurvive() throws {
        let recipe = try Recipe(
            files: [],
            overrides: [
                "data.train=[a.rec, {path: 'b: c', folder: d, name: e, weight: 0.5, labels: shared}]",
                "data={exclude: list.txt, shuffle: chunks, chunk: 100, open_chunks: 3, threads: 2, prefetch: 5}",
            ])
        let written = try read(recipe.yaml)
        #expect(written == recipe && written.yaml == recipe.yaml)
        let identities = try Recipe(
            files: [], overrides: ["data={sampling: identities, images_per_identity: 4}", "batch.global=32"])
        #expect(try read(identities.yaml) == identities)
    }

    @Test func theTextDoesNotDependOnTheOrderOfADictionary() throws {
        let prefixes = (0..<40).map { "layer\($0)" }
        let factors = prefixes.map { "\($0): 0.5" }.joined(separator: ", ")
        let yaml = try Recipe(files: [], overrides: ["init.learning_rate_factors={\(factors)}"]).yaml
        let places = prefixes.sorted().map { yaml.range(of: "\($0):")!.lowerBound }
        #expect(places == places.sorted())
    }

    @Test func thereAreConfigs() { #expect(Self.configs.count >= 4) }

    @Test(arguments: configs) func theConfigsAreSoundAndSurvive(_ path: String) throws {
        let recipe = try Recipe(files: [path], overrides: [])
        #expect(try read(recipe.yaml) == recipe)
    }
}
