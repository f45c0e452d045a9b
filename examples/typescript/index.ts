import * as inference from "@pulumi-coreweave-inference/native";

const training = new inference.CapacityClaim("training", {
    resources: {
        instanceId: "gb200-4x",
        instanceCount: 4,
        zones: ["US-WEST-04A", "US-EAST-04A"], // order = allocation preference
    },
});

export const claimId = training.id;
export const status = training.status;
export const zones = training.resources.zones;
