// The error class of the API, and how errors of the binding become instances of it.
'use strict';

/** What every failure of this library throws or rejects with: `code` for programs, `message` for people. */
class RegistryError extends Error {
  /**
   * @param {string} message
   * @param {{ code?: string, status?: number, option?: string, cause?: unknown }} [details]
   */
  constructor(message, { code = 'INVALID', status = 500, option, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = status;
    if (option !== undefined) this.option = option;
  }
}
Object.defineProperty(RegistryError.prototype, 'name', { value: 'RegistryError', configurable: true, writable: true });

/** A configuration that can't be used; `option` names what is wrong in it. */
function invalidOption(option, problem) {
  return new RegistryError(`option \`${option}\` ${problem}`, { code: 'INVALID_CONFIG', status: 400, option });
}

/**
 * An error of the binding as one of ours. It has a stack of one line when it comes from another thread; it gets that of `from`'s caller.
 *
 * @param {any} error
 * @param {Function} from
 */
function own(error, from) {
  if (!(error instanceof Error) || error instanceof RegistryError || typeof (/** @type {any} */ (error).status) !== 'number') return error;
  Object.setPrototypeOf(error, RegistryError.prototype);
  Error.captureStackTrace?.(error, from);
  return error;
}

/**
 * Calls the binding.
 *
 * @template T
 * @param {() => T} work
 * @param {Function} from
 * @returns {T}
 */
function call(work, from) {
  try {
    return work();
  } catch (error) {
    throw own(error, from);
  }
}

/**
 * Calls the binding and waits.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {Function} from
 * @returns {Promise<T>}
 */
async function callAsync(work, from) {
  try {
    return await work();
  } catch (error) {
    throw own(error, from);
  }
}

module.exports = { RegistryError, invalidOption, own, call, callAsync };
