import Foundation
import Objectives
import Recipes
import Testing
import Training

/// The margin function that a recipe's head becomes, judged by what it computes, and what a run logs of it.
@Suite(.serialized) struct HeadRecipeTests {
    private static func row(_ angle: Double, norm: Double = 30) -> MarginRow {
        MarginRow(index: 0, sample: 4, cosine: cos(angle), norm: norm)
    }

    private static func function(_ yaml: String, ranks: Int = 1) -> any MarginFunction {
        RunSetup.margin(TinyRun.head(yaml), seed: 7, ranks: ranks)
    }

    private static func logit(_ yaml: String, angle: Double = 1) -> Double {
        let function = function(yaml)
        return function.scale(row(angle)).value * function.target(row(angle)).value
    }

    @Test func everyMarginComputesItsFormula() {
        let c = cos(1.0)
        let expected: [(String, Double)] = [
            ("{margin: softmax}", c),
            ("{margin: normface, scale: 20}", 20 * c),
            ("{margin: cosface, scale: 20, m: 0.3}", 20 * (c - 0.3)),
            ("{margin: arcface, scale: 20, m: 0.3}", 20 * cos(1.3)),
            ("{margin: arcface, scale: 20, m: 2, fallback: plain}", 20 * cos(3.0)),
            ("{margin: combined, scale: 20, m1: 0.9, m2: 0.4, m3: 0.1}", 20 * (cos(1.3) - 0.1)),
            ("{margin: sphereface_r, scale: 20, m: 1.5}", 20 * cos(1.5)),
            ("{margin: sphereface, m: 2, lambda: {start: 3}}", 30 * (3 * c + cos(2)) / 4),
            ("{margin: magface, scale: 20, lengths: [20, 40], margins: [0.2, 0.6]}", 20 * cos(1.4)),
            ("{margin: adaface, scale: 20, m: 0.3, h: 0, averaging: 0}", 20 * (c - 0.3)),
            ("{margin: adaface, scale: 20, m: 0.3, h: 1, norm_mean: 31, norm_deviation: 0}", 20 * cos(1.3)),
            ("{margin: curricularface, scale: 20, m: 0.3}", 20 * cos(1.3)),
        ]
        for (head, value) in expected { #expect(abs(Self.logit(head) - value) < 1e-12, "\(head)") }
        // Beyond π − m.
        let far = 2.9
        for (fallback, value) in [("hard", cos(far) - 0.5 * sin(0.5)), ("plain", cos(3.4)), ("easy", cos(far))] {
            for head in ["arcface", "magface, margins: [0.5, 0.5]"] {
                let logit = Self.logit("{margin: \(head), scale: 20, fallback: \(fallback)}", angle: far)
                #expect(abs(logit - 20 * value) < 1e-12, "\(head), \(fallback)")
            }
        }
        let clipped = Self.logit("{margin: arcface, scale: 20, fallback: clipped}", angle: far)
        #expect(abs(clipped - 20 * cos(.pi - 1e-4)) < 1e-12)
    }

    @Test func formsAndScopes() throws {
        for head in ["arcface", "combined"] {
            let function = Self.function("{margin: \(head), gradient: straight_through}")
            #expect(function.target(Self.row(1)).slope == 1)
            #expect(Self.function("{margin: \(head)}").target(Self.row(1)).slope != 1)
        }
        #expect(Self.function("{margin: softmax, bias: true}").normalisation == .none(bias: true))
        #expect(!Self.function("{margin: sphereface_r, normalise_centres: false}").normalisesCentres)
        #expect(Self.function("{margin: sphereface_r}").normalisesCentres)
        let kinds: [(String, ElasticFace.Kind, Double)] = [
            ("elasticface_arc", .arc, 0.5), ("elasticface_cos", .cosine, 0.35),
        ]
        for (name, kind, mean) in kinds {
            let assignments: [(String, ElasticFace.Assignment)] = [
                ("drawn", .drawn), ("ranked", .ranked), ("permuted", .permuted),
            ]
            for (word, assignment) in assignments {
                let head = try #require(Self.function("{margin: \(name), assignment: \(word)}") as? ElasticFace)
                #expect(head.kind == kind && head.mean == mean && head.assignment == assignment)
                #expect(head.noise(4, 2) == ElasticFace(seed: 7).noise(4, 2))
            }
        }
        for head in ["adaface", "curricularface", "elasticface_arc", "elasticface_cos"] {
            let function = Self.function("{margin: \(head), statistics: local}", ranks: 3)
            let local = try #require(function as? LocalStatistics)
            #expect(local.parts.count == 3)
            #expect(!(Self.function("{margin: \(head)}", ranks: 3) is LocalStatistics))
        }
        let filtered = try #require(
            Self.function("{margin: adaface, statistics: local, filter: 0.3}", ranks: 2) as? InterclassFilter)
        #expect(filtered.threshold == 0.3 && filtered.base is LocalStatistics)
    }

    @Test func centres() {
        #expect(RunSetup.initializer(TinyRun.head("{margin: arcface}")) == .normal(standardDeviation: 0.01))
        #expect(RunSetup.initializer(TinyRun.head("{margin: adaface}")) == .unitUniform)
        #expect(RunSetup.initializer(TinyRun.head("{margin: arcface, centres: unit_uniform}")) == .unitUniform)
    }

    @Test(arguments: [
        ("{margin: softmax}", ["accuracy", "norm", "target_logit"]),
        ("{margin: magface}", ["accuracy", "margin", "norm", "penalty", "target_cosine"]),
        ("{margin: adaface}", ["accuracy", "norm", "norm_deviation", "norm_mean", "target_cosine"]),
        ("{margin: curricularface, filter: 0.4}", ["accuracy", "filtered_rows", "hard_rows", "t", "target_cosine"]),
        ("{margin: sphereface}", ["accuracy", "lambda", "norm", "target_cosine"]),
        ("{margin: elasticface_arc}", ["accuracy", "margin", "target_cosine"]),
    ])
    func theLogHoldsTheHeadsMetrics(_ head: String, _ metrics: [String]) throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.head = TinyRun.head(head)
            $0.schedule.maxSteps = 2
        }
        let run = try TinyRun.train(recipe, ranks: 2)
        #expect(run.log.all.contains { $0.contains("head: \(recipe.head.summary), 7 centres") })
        let others: Set<String> = [
            "event", "schema", "ts", "step", "loss", "gradient_norm", "learning_rate", "images_per_second", "images",
            "step_seconds", "data_wait_share", "reduce_wait_seconds", "consistency_seconds",
            "watchdog_seconds",
        ]
        let steps = try TinyRun.events(recipe).filter { $0["event"] as? String == "step" }
        #expect(steps.count == 2)
        for step in steps {
            #expect(step.keys.filter { !others.contains($0) }.sorted() == metrics)
            for name in metrics { #expect((step[name] as? Double)?.isFinite == true) }
        }
    }
}
