// An inline program of the Automation API: `node bin/main.js STEP...` takes one stack through the steps, and
// prints a line of JSON after each.
//
// Environment: FOLDER, which has a Pulumi.yaml; TIMEOUT of the wait, 60s by default; IMPORT_ID, the claim of the
// step `import`; and the variables of the CLI and of the plugin.
import * as inference from "@pulumi-coreweave-inference/native";
import { LocalWorkspace, Stack } from "@pulumi/pulumi/automation";

interface Declared {
    count: number;
    zones: string[];
    imported?: string;
    hasOther: boolean;
}

const declared: Declared = { count: 4, zones: ["US-WEST-04A", "US-EAST-04A"], hasOther: false };
const timeout = process.env.TIMEOUT || "60s";
const other = "urn:pulumi:test::inline::coreweave-inference:index:CapacityClaim::other";

async function program() {
    const training = new inference.CapacityClaim("training", {
        resources: { instanceId: "gb200-4x", instanceCount: declared.count, zones: declared.zones },
        readiness: { timeout },
    });
    if (declared.hasOther) {
        new inference.CapacityClaim("other", {
            resources: { instanceId: "gb200-4x", instanceCount: 0, zones: declared.zones },
        });
    }
    if (declared.imported) {
        new inference.CapacityClaim(
            "imported",
            { name: "imported", resources: { instanceId: "gb200-4x", instanceCount: 2, zones: ["US-WEST-04A"] } },
            { import: declared.imported },
        );
    }
    return {
        claimId: training.id,
        status: training.status,
        allocated: training.allocatedInstances,
        zones: training.resources.zones,
    };
}

async function up(stack: Stack, target?: string[]) {
    const done = await stack.up({ target });
    const outputs = Object.entries(done.outputs).map(([name, output]) => [name, output.value]);
    return { changes: done.summary.resourceChanges, outputs: Object.fromEntries(outputs) };
}

const steps: Record<string, (stack: Stack) => Promise<object>> = {
    up: (stack) => up(stack),
    scale: async (stack) => {
        declared.count = 6;
        return up(stack);
    },
    reorder: async (stack) => {
        declared.zones = [...declared.zones].reverse();
        return up(stack);
    },
    import: async (stack) => {
        declared.imported = needed("IMPORT_ID");
        return up(stack);
    },
    target: async (stack) => {
        declared.hasOther = true;
        return up(stack, [other]);
    },
    refresh: async (stack) => ({ changes: (await stack.refresh()).summary.resourceChanges }),
    destroy: async (stack) => ({ changes: (await stack.destroy()).summary.resourceChanges }),
};

function needed(variable: string): string {
    const value = process.env[variable];
    if (!value) {
        throw new Error(`${variable} is not set`);
    }
    return value;
}

async function main(names: string[]) {
    const unknown = names.filter((name) => !(name in steps));
    if (names.length === 0 || unknown.length > 0) {
        throw new Error(`usage: main.js STEP..., of ${Object.keys(steps).join(", ")}; not ${unknown.join(", ")}`);
    }
    const stack = await LocalWorkspace.createOrSelectStack(
        { stackName: "test", projectName: "inline", program },
        { workDir: needed("FOLDER") },
    );
    for (const name of names) {
        console.log(JSON.stringify({ step: name, ...(await steps[name](stack)) }));
    }
}

main(process.argv.slice(2)).catch((error) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
});
