// Validates objects of Argo, a JSON list on standard input, by the schemas of @kubernetes-models/argo-workflows;
// prints a line for each fault. The first argument is the folder that has the package.
import { pathToFileURL } from "node:url";
import fs from "node:fs";

const home = process.argv[2] + "/node_modules/@kubernetes-models/argo-workflows/argoproj.io/v1alpha1/";
const kinds = {};
for (const name of ["WorkflowTemplate", "CronWorkflow"]) {
  kinds[name] = (await import(pathToFileURL(home + name + ".js")))[name];
}
for (const one of JSON.parse(fs.readFileSync(0))) {
  if (!(one.kind in kinds)) throw new Error("no schema for " + one.kind);
  try {
    new kinds[one.kind](one).validate();
  } catch (error) {
    console.log(error.message.split(", ").join("\n"));
  }
}
