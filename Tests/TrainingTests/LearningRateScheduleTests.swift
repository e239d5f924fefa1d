import Recipes
import Testing
import Training

@Suite struct LearningRateScheduleTests {
    /// Ten updates, two of them warm-up, base rate 0.1.
    private func schedule(_ change: (inout ScheduleSection) -> Void) -> LearningRateSchedule {
        var section = ScheduleSection()
        section.epochs = 10
        section.warmupEpochs = 2
        change(&section)
        var optimizer = OptimizerSection()
        optimizer.learningRate = 0.1
        return LearningRateSchedule(section, optimizer, globalBatch: 512, stepsPerEpoch: 1)
    }

    private func expect(
        _ schedule: LearningRateSchedule, _ rates: [Double], _ location: SourceLocation = #_sourceLocation
    ) {
        for (step, rate) in rates.enumerated() {
            #expect(abs(schedule.rate(step: step) - rate) < 1e-12, "after \(step) updates", sourceLocation: location)
        }
    }

    @Test func polynomialInReferenceMode() {
        // The published scheduler: the very first update of a warm-up runs at the full rate.
        expect(
            schedule { $0.reference = true },
            [0.1, 0.05, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125, 0])
    }

    @Test func polynomialWarmsUpFromTheFirstUpdate() {
        expect(schedule { _ in }, [0.05, 0.1, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125, 0])
        expect(schedule { $0.power = 2 }, [0.05, 0.1, 0.1, 0.1 * 0.875 * 0.875, 0.1 * 0.75 * 0.75])
        expect(schedule { $0.warmupEpochs = 0 }, [0.1, 0.09, 0.08])
    }

    @Test func ratesNeverTurnNegative() {
        for kind in ScheduleSection.Kind.allCases {
            let rates = schedule {
                $0.kind = kind
                $0.milestones = [4]
            }
            for step in 0..<40 { #expect(rates.rate(step: step) >= 0 && rates.rate(step: step) <= 0.1) }
        }
    }

    @Test func stepsMultiplyAtTheirMilestones() {
        expect(
            schedule {
                $0.kind = .steps
                $0.milestones = [5, 8]
            }, [0.05, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001])
    }

    @Test func cosineEndsAtZero() {
        expect(
            schedule {
                $0.kind = .cosine
                $0.warmupEpochs = 0
            }, [0.1, 0.0975528258147577, 0.0904508497187474, 0.0793892626146237, 0.0654508497187474, 0.05])
        #expect(schedule { $0.kind = .cosine }.rate(step: 10) < 1e-15)
    }

    @Test func warmupStepsWinOverWarmupEpochs() {
        expect(schedule { $0.warmupSteps = 4 }, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1 * 5 / 6])
    }

    @Test func rateFollowsTheGlobalBatch() {
        var optimizer = OptimizerSection()
        optimizer.learningRate = 0.1
        optimizer.referenceBatch = 512
        for (scaling, rate) in [(OptimizerSection.Scaling.none, 0.1), (.linear, 0.2), (.sqrt, 0.1 * 2.0.squareRoot())] {
            optimizer.scaling = scaling
            #expect(abs(LearningRateSchedule.scaledRate(optimizer, globalBatch: 1024) - rate) < 1e-15)
        }
    }
}
