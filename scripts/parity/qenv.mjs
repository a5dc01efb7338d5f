// Stands in for @push.rocks/qenv where a checkout has not installed it: the same questions, answered from the environment alone.

export class Qenv {
  async getEnvVarOnDemand(names) {
    return this.getEnvVarOnDemandSync(names);
  }

  /** The first of the names that is set. */
  getEnvVarOnDemandSync(names) {
    return [names].flat().map((name) => process.env[name]).find((value) => value !== undefined);
  }

  async getEnvVarOnDemandStrict(names) {
    const value = this.getEnvVarOnDemandSync(names);
    if (value === undefined) throw new Error(`none of the environment variables is set: ${[names].flat().join(', ')}`);
    return value;
  }
}
