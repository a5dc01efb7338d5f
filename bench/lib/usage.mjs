// What processes use, from /proc: CPU seconds, peak memory, and how busy the whole machine was.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** `pid` and its children: nginx works in those. */
export function family(pid) {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' '));
  return [pid, ...children.filter(Boolean).map(Number)];
}

/** The fields of /proc/PID/stat from the third on: the second is the program's name and may hold anything. */
const fields = (pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ').map(Number);

/** CPU seconds that the processes have used, all their threads together. */
export function cpu(pids) {
  return pids.reduce((sum, pid) => sum + fields(pid)[11] + fields(pid)[12], 0) / TICKS;
}

/** CPU seconds of this process and of the programs it has run to their end: the load's. */
function ownCpu() {
  return fields('self').slice(11, 15).reduce((sum, ticks) => sum + ticks, 0) / TICKS;
}

/** CPU seconds that the whole machine has worked. */
function machineCpu() {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / TICKS;
}

/** Forgets the peak of each process, so that the next one is that of the sample alone. */
function resetPeak(pids) {
  for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** Peak resident memory in bytes since the reset, the processes added up. */
function peak(pids) {
  return pids.reduce((sum, pid) => sum + Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmHWM:\s+(\d+) kB/m)[1]) * 1024, 0);
}

/**
 * Runs `work` and tells what the processes used meanwhile.
 *
 * @template T
 * @param {number} pid
 * @param {() => Promise<T>} work
 * @returns {Promise<{ result: T, cpu: number, peak: number, others: number }>} `others` are cores kept busy by programs that are no part of this run
 */
export async function watch(pid, work) {
  const pids = family(pid);
  resetPeak(pids);
  const [before, own, machine, start] = [cpu(pids), ownCpu(), machineCpu(), performance.now()];
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  const used = cpu(pids) - before;
  const others = Math.max(0, (machineCpu() - machine - used - (ownCpu() - own)) / seconds);
  return { result, cpu: used, peak: peak(pids), others };
}
