// swift-tools-version: 6.2
import PackageDescription

// Arrows run one way (docs/architecture.md); scripts/check-imports holds this file against that table.
let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swift)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: swift)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")

let package = Package(
    name: "acuity",
    products: [.executable(name: "acuity", targets: ["acuity"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        // C: system libraries and kernels.
        .systemLibrary(name: "COpenMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
        .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
        .target(
            name: "CImageCodecs",
            linkerSettings: [.linkedLibrary("png"), .linkedLibrary("turbojpeg")]),
        .target(name: "CKernels", linkerSettings: [.linkedLibrary("m")]),

        // The engine.
        library("Tensors", ["CKernels", "COpenBLAS"]),
        library("Layers", ["Tensors", "CKernels"]),
        library("Networks", ["Layers", "Tensors"]),

        // Ranks.
        library("Collectives", ["Tensors"]),
        library("MPICollectives", ["COpenMPI", "Collectives", "Tensors"]),

        // What is learnt, from what, and how it is judged.
        library("Objectives", ["Layers", "Tensors", "Collectives"]),
        library("FaceData", ["Tensors", "CImageCodecs"]),
        library("Artifacts", ["Tensors", crypto]),
        library("Evaluation", ["Tensors"]),
        library("Figures", ["Tensors", "CImageCodecs"]),

        // The run.
        library("Recipes", [yams]),
        library("Telemetry", [log]),
        library(
            "Training",
            [
                "Artifacts", "Collectives", "Evaluation", "FaceData", "Figures", "Layers", "Networks", "Objectives",
                "Recipes", "Telemetry", "Tensors", log,
            ]),
        .target(
            name: "Benchmarks",
            dependencies: [
                "CKernels", "Collectives", "FaceData", "Layers", "Networks", "Objectives", "Recipes", "Tensors", "Training",
            ],
            path: "Benchmarks", exclude: ["peer_loader.py", "peer_torch.py"], swiftSettings: swift),
        .executableTarget(
            name: "acuity",
            dependencies: [
                "Artifacts", "Benchmarks", "CKernels", "Collectives", "Evaluation", "FaceData", "Figures", "Layers",
                "MPICollectives", "Networks",
                "Objectives", "Recipes", "Telemetry", "Tensors", "Training", argumentParser, log,
            ],
            swiftSettings: swift),

        // Tests.
        .target(
            name: "TestSupport", dependencies: ["Tensors", "Layers", "Collectives"], path: "Tests/TestSupport",
            swiftSettings: swift),
        .executableTarget(
            name: "parallel-tests",
            dependencies: ["Collectives", "MPICollectives", "Objectives", "Tensors", "TestSupport"],
            path: "Tests/ParallelTests", exclude: ["allocations", "allocations.c", "check-trace", "run"], swiftSettings: swift),
        tests("TensorsTests", ["Tensors", "CKernels", "TestSupport"]),
        tests("LayersTests", ["Layers", "Networks", "Tensors", "CKernels", "TestSupport"]),
        tests("NetworksTests", ["Networks", "Layers", "Tensors", "TestSupport"]),
        tests("CollectivesTests", ["Collectives", "Tensors", "TestSupport"]),
        tests("ObjectivesTests", ["Objectives", "Layers", "Collectives", "Tensors", "TestSupport"]),
        tests("FaceDataTests", ["FaceData", "Tensors", "CImageCodecs", "TestSupport"]),
        tests("ArtifactsTests", ["Artifacts", "Tensors", "TestSupport"]),
        tests("EvaluationTests", ["Evaluation", "Tensors", "TestSupport"]),
        tests("FiguresTests", ["Figures", "Tensors", "TestSupport"]),
        tests("RecipesTests", ["Recipes", "TestSupport"]),
        tests("TelemetryTests", ["Telemetry", log]),
        tests(
            "TrainingTests",
            [
                "Training", "Artifacts", "Collectives", "Evaluation", "FaceData", "Layers", "Networks", "Objectives",
                "Recipes", "Telemetry", "Tensors", "TestSupport", log,
            ]),
    ],
    cLanguageStandard: .gnu17
)
