# What install.sh says, in Chinese, by the English format: the same %s in the same order. Sourced by words.sh;
# tests/test_install_language.py wants each format here, and none that is no longer said.

usage() { cat <<'HELP'
sudo ./install.sh [选项]...

安装 ER（Embedding 与 Reranker）：程序在 /opt/er，配置在 /etc/er，并装好 systemd 单元。
不提问，做什么先说明，随时可以重复运行（升级也是如此）。

  --start       最后启动 er.target
  --demo        在本机试用 ER，有无 GPU 均可：真实的小模型，一次 embedding，一次 rerank
  --cpu         即使有 GPU 也用 CPU
  --no-vllm     只装网关和控制台；副本在别处运行（url = "http://…"）
  --no-enable   开机不启动 er.target
  --new-vectors 升级后名称可以给出不同的向量：已存的向量都将重建
  --dry-run     列出每个操作，不做任何改动
  --rollback    回到之前安装的版本；再来一次则重新前进
  --uninstall   卸载 ER；/etc/er 和 /var/lib/er 保留
  --purge       与 --uninstall 合用：这两个目录也删除（模型文件绝不会动）
  --help        本说明

网络条件不好时（详见 er help offline）：
  --index-url URL   pip 从这个索引下载；不写则按 pip 自己的设置
  --proxy URL       下载经过这个代理
  --fetch DIR       把安装所需的一切收集到 DIR，供没有网络的机器使用；不需要 root；
                    --cpu、--no-vllm、--demo 说明给什么样的机器用
  --models NAME     与 --fetch 合用：要带上的模型（可多次），也可以是目录，或 none；默认是 Qwen3 的两个 0.6B 模型
  --from HUB        与 --fetch 合用：模型取自 modelscope、huggingface（默认）或一个 URL
  --offline DIR     从这样的目录安装，完全不用网络

语言取自 LC_ALL、LC_MESSAGES 或 LANG；要英文：sudo LANG=C.UTF-8 ./install.sh
HELP
}

chinese=(
    # install.sh, words.sh
    ['Try %s']='用法见：%s'
    ['no option %s']='没有选项 %s'
    ['--purge goes with --uninstall']='--purge 要与 --uninstall 合用'
    ['--demo needs vLLM: leave out --no-vllm']='--demo 需要 vLLM：去掉 --no-vllm'
    ['--demo goes with neither --uninstall nor --rollback']='--demo 不能与 --uninstall 或 --rollback 同时使用'
    ['needs root: run it with sudo']='需要 root 权限：请用 sudo 运行'
    ['interrupted; run it again to finish, or --uninstall to undo']='已中断；重新运行可继续完成，--uninstall 可撤销'
    ['the step above failed (line %s); run it again when its cause is gone']='上面这一步失败了（第 %s 行）；排除原因后重新运行'
    ['another install.sh is running; wait for it to end (a demo in the foreground ends with Ctrl-C)']='另一个 install.sh 正在运行；请等它结束（前台的 demo 用 Ctrl-C 结束）'
    ['Without root some of what is there cannot be seen; with sudo this list is exact.']='没有 root 权限，有些现状看不到；用 sudo 运行，这份清单才准确。'
    ['systemd is not what runs this machine (PID 1 is %s), and ER is made
of systemd units. On a server or a virtual machine it works; to try ER right here: ./install.sh --demo']='这台机器不由 systemd 管理（PID 1 是 %s），而 ER 由 systemd 单元组成。
服务器或虚拟机上可以安装；要在这里试用 ER：./install.sh --demo'
    ['%s wants a value']='%s 后面要有一个值'
    ['interrupted; run it again: what is there is not fetched again']='已中断；重新运行即可：已经下载的不会再下载'

    # network.sh
    ['%s and %s exclude each other']='%s 和 %s 不能同时使用'
    ['%s goes with %s']='%s 要与 %s 合用'
    ['%s uses no network: leave out %s']='%s 不使用网络：去掉 %s'
    ['%s goes by itself']='%s 要单独使用'
    ['%s wants an address as https://HOST/simple']='%s 要写成 https://HOST/simple 这样的地址'
    ['%s wants an address as http://HOST:PORT']='%s 要写成 http://HOST:PORT 这样的地址'
    ['Note: a password in an option can be read by whoever lists processes while this runs; pip.conf, or
  %s with the variable set before, keeps it hidden.']='注意：写在选项里的密码，运行期间谁列出进程都能看到；写进 pip.conf，或先设好变量再用
  %s，就不会暴露。'
    ['no index (no-index in %s)']='不用索引（%s 中的 no-index）'
    ["pip's own default index"]='pip 自己的默认索引'
    ['also %s (%s)']='以及 %s（%s）'
    ['through the proxy %s (%s)']='经过代理 %s（%s）'
    ['  apt: as its sources say, without a proxy']='  apt：按它自己的软件源，不经过代理'
    ['  apt: as its sources say, through the proxy %s (%s)']='  apt：按它自己的软件源，经过代理 %s（%s）'
    ['Where packages come from']='软件包的来源'
    ['  Note: sudo left out settings of %s: %s. With them it is this line:
    %s']='  注意：sudo 去掉了 %s 的设置：%s。要带上它们，请输入：
    %s'
    ['pip could not get what %s needs; its message stands above.
It looked at: %s']='pip 没能取得 %s 所需的软件包；它的报错见上。
查找的地方：%s'
    ['sudo left out settings of %s; with them it is this line:
  %s']='sudo 去掉了 %s 的设置；要带上它们，请输入：
  %s'
    ['An index without HTTPS needs PIP_TRUSTED_HOST=HOST in the environment as well.']='不是 HTTPS 的索引，还要在环境变量里设 PIP_TRUSTED_HOST=HOST。'
    ['Try another index (%s), a proxy (%s), or set them in /etc/pip.conf; where
there is no network: %s. Run this again then.']='请换一个索引（%s）或代理（%s），也可以写进 /etc/pip.conf；没有网络时见
%s。之后重新运行。'

    # fetch.sh
    ['%s wants OWNER/NAME, a folder or none']='%s 要写 OWNER/NAME、一个目录，或 none'
    ['another %s is filling %s']='另一个 %s 正在往 %s 里下载'
    ['Fetch, into %s']='下载到 %s'
    ["ER's own files"]='ER 自己的文件'
    ['packages of the distribution']='发行版的软件包'
    ['packages of Python']='Python 的软件包'
    ['checksums']='校验和'
    ['vLLM: none']='vLLM：不带'
    ['vLLM: the build for the CPU']='vLLM：CPU 版'
    ['vLLM: the build for NVIDIA GPUs (%s fetches the one for the CPU, %s none)']='vLLM：NVIDIA GPU 版（%s 下载 CPU 版，%s 不下载）'
    ['this needs %s here: %s']='这一步在本机需要 %s：%s'
    ['%s is no model: it has no %s']='%s 不是模型：里面没有 %s'
    ['%s holds something else; %s wants a folder of its own. Nothing was changed.']='%s 里有别的东西；%s 要一个单独的目录。没有做任何改动。'
    ['%s cannot be written to by %s']='%s 不能由 %s 写入'
    ['%s has %s MB free; this needs %s MB at most, and %s MB are there.
Nothing was changed.']='%s 可用空间 %s MB；最多需要 %s MB，其中 %s MB 已经有了。
没有做任何改动。'
    ['Disk: %s MB free in %s, at most %s MB needed, of which %s MB are there']='磁盘：可用 %s MB（%s），最多需要 %s MB，其中 %s MB 已经有了'
    ['apt-get could not fetch %s; its message stands above. Run this again when it can.']='apt-get 没能下载 %s；它的报错见上。排除原因后重新运行。'
    ['what pip has fetched into %s is not enough for it; its message stands above.
Remove that folder and run this again.']='pip 下载到 %s 的软件包不够用；它的报错见上。
请删除那个目录，再重新运行。'
    ['the model in %s']='%s 里的模型'
    ['the model %s']='模型 %s'
    ['  models: %s (%s)']='  模型：%s（%s）'
    ['  models: %s']='  模型：%s'
    ['the model %s could not be fetched; the cause stands above.
What is there stays; run this again, or leave it out: %s']='模型 %s 没能下载；原因见上。
已经下载的会保留；可以重新运行，或者不带模型：%s'
    ['  %s is for %s on %s with Python %s: %s MB in %s files, each with its checksum.']='  %s 适用于 %s、%s、Python %s：共 %s MB，%s 个文件，每个都有校验和。'
    ['  Copy the folder to the other machine, and there:']='  把这个目录复制到另一台机器，在那里运行：'
    ['  Checksum of the list itself, which %s shows as well: %s']='  清单本身的校验和（%s 也会显示）：%s'

    # offline.sh
    ['there is no folder %s. Nothing was changed.']='没有目录 %s。没有做任何改动。'
    ['%s has no SHA256SUMS: %s did not come to its end, or not all was copied. Run it again, or copy
the folder again. Nothing was changed.']='%s 里没有 SHA256SUMS：%s 没有做完，或者没有全部复制过来。请重新运行它，或重新复制
这个目录。没有做任何改动。'
    ['Checksums of %s (%s MB)']='核对 %s 的校验和（%s MB）'
    ['  all right: %s files; checksum of the list itself: %s']='  全部正确：%s 个文件；清单本身的校验和：%s'
    ['%s was fetched by another version of ER (%s; this is %s). Use its own: %s
Nothing was changed.']='%s 是用另一个版本的 ER 下载的（%s；这里是 %s）。请用它自带的：%s
没有做任何改动。'
    ['%s was fetched for %s %s, and this machine has %s. Run --fetch on a machine like
this one. Nothing was changed.']='%s 是为 %s %s 下载的，而这台机器是 %s。请在与本机相同的机器上
运行 --fetch。没有做任何改动。'
    ['%s is not as it was fetched:
%s
Copy it again, or run --fetch again. Nothing was changed.']='%s 与下载时不一致：
%s
请重新复制，或重新运行 --fetch。没有做任何改动。'
    ['%s has files that --fetch did not put there:
%s
Remove them. Nothing was changed.']='%s 里有不是 --fetch 放进去的文件：
%s
请删除它们。没有做任何改动。'
    ['%s has no %s, which this machine needs. Run %s anew, or go on without vLLM: %s
Nothing was changed.']='%s 里没有这台机器需要的 %s。请重新运行 %s，或者不装 vLLM：%s
没有做任何改动。'
    ["%s has no model of the demo's: run --fetch with --demo. Nothing was changed."]='%s 里没有 demo 的模型：运行 --fetch 时请加 --demo。没有做任何改动。'
    ['%s has %s MB free; the models need %s MB. Nothing was changed.']='%s 可用空间 %s MB；模型需要 %s MB。没有做任何改动。'
    ['Network: not used; all comes from %s']='网络：不使用；一切取自 %s'
    ['apt-get could not install %s from %s; its message stands above. Where it says that a version
does not fit, this machine is newer or older than the one that fetched: update that one and run --fetch again.']='apt-get 没能安装 %s（取自 %s）；它的报错见上。如果说版本
不合适，是这台机器比下载的那台新或旧：请更新那一台，再运行 --fetch。'
    ['Models']='模型'
    ['  %s is there; it stays as it is']='  %s 已经存在；保持不变'
    ['  %s brings none']='  %s 没有带模型'
    ['%s has not all that %s needs; the message of pip stands above']='%s 里没有 %s 所需的全部软件包；pip 的报错见上'

    # rollback.sh
    ['er-gateway was restarted with the new version and does not come up: %s']='er-gateway 已用新版本重启，但没有起来：%s'
    ['Back to %s, which ran before']='回到之前运行的 %s'
    ['the new version did not come up; %s is in charge again, and what it served goes on']='新版本没有起来；%s 重新接管，原有服务继续运行'
    ['ER is not installed here']='这里没有安装 ER'
    ['there is no version to go back to: none was installed before %s']='没有可以回退的版本：%s 之前没有安装过其他版本'
    ['%s, which was installed before, is gone or not whole; its own install.sh makes it again']='之前安装的 %s 已不在或不完整；用它自己的 install.sh 可重新安装'
    ['Forward again to ER %s, from %s']='重新前进到 ER %s（当前为 %s）'
    ['Back to ER %s, from %s']='回退到 ER %s（当前为 %s）'
    ['%s ran with %s, which is gone or not whole. Nothing was changed.']='%s 当时使用的 %s 已不在或不完整。未做任何改动。'
    ['  ER %s is in charge. Once more goes to %s: sudo ./install.sh --rollback']='  现在由 ER %s 接管。再来一次则到 %s：sudo ./install.sh --rollback'

    # machine.sh
    ['an unknown system']='未知系统'
    ['this is %s; ER installs on Debian 12, Debian 13 and Ubuntu 24.04. Nothing was changed.']='这里是 %s；ER 支持 Debian 12、Debian 13 和 Ubuntu 24.04。未做任何改动。'
    ['this processor is %s; vLLM comes for x86_64 and aarch64. Nothing was changed.']='处理器是 %s；vLLM 只有 x86_64 和 aarch64 版。未做任何改动。'
    ['System: %s, %s']='系统：%s，%s'
    ["there is a %s that is not ER's. Move it away first. Nothing was changed."]='已有 %s，但不是 ER 的。请先把它移走。未做任何改动。'
    ["there is a user er already, of something or somebody else (home %s). ER's processes run as
a user of that name; rename that one first. Nothing was changed."]='已有用户 er，但属于其他程序或其他人（主目录 %s）。ER 的进程以同名用户运行；
请先给那个用户改名。未做任何改动。'
    ['vLLM: %s has no replica on this machine']='vLLM：%s 中没有在本机运行的副本'
    ['GPU: %s runs every replica on the CPU']='GPU：%s 的所有副本都在 CPU 上运行'
    ['vLLM: not installed here']='vLLM：这里不安装'
    ['GPU: not used; the CPU build of vLLM is']='GPU：不使用；用 vLLM 的 CPU 版'
    ['GPU: found']='GPU：已找到'
    ['nothing; it is not installed']='无输出；没有安装'
    ["there is an NVIDIA GPU (%s) but its driver does not answer:
  nvidia-smi says: %s
Install NVIDIA's driver and reboot, then run this again; or go on without the GPU: ./install.sh --cpu
Nothing was changed."]='有 NVIDIA GPU（%s），但驱动没有应答：
  nvidia-smi 输出：%s
请安装 NVIDIA 驱动并重启，然后重新运行；或不用 GPU：./install.sh --cpu
未做任何改动。'
    ['there is a GPU that ER does not support (%s); it runs on NVIDIA GPUs and on the CPU.
Go on without the GPU: ./install.sh --cpu; or install the gateway alone, in front of vLLM servers that
something else runs on it: ./install.sh --no-vllm. Nothing was changed.']='这块 GPU ER 不支持（%s）；ER 可在 NVIDIA GPU 和 CPU 上运行。
不用 GPU 继续：./install.sh --cpu；或只装网关，后面接由其他方式在这块卡上运行的 vLLM：
./install.sh --no-vllm。未做任何改动。'
    ['GPU: whether vLLM runs on it could not be told']='GPU：无法判断 vLLM 能否在上面运行'
    ['the NVIDIA driver here is %s (CUDA %s), too old for vLLM, which comes built for CUDA %s.
Install driver %s or newer and reboot, then run this again; or go on without the GPU: ./install.sh --cpu;
or install the gateway alone, with vLLM elsewhere or your own: ./install.sh --no-vllm
PyPI has no other build: er help gpus. Nothing of ER was installed.']='这里的 NVIDIA 驱动是 %s（CUDA %s），对 vLLM 来说太旧：它是按 CUDA %s 构建的。
请安装 %s 或更新的驱动并重启，然后重新运行；或不用 GPU 继续：./install.sh --cpu；
或只装网关，vLLM 在别处或自备：./install.sh --no-vllm
PyPI 上没有其他构建：er help gpus。没有安装 ER 的任何部分。'
    ['GPU %s (%s, compute capability %s): too old for vLLM, which begins with %s; it is left out']='GPU %s（%s，计算能力 %s）：对 vLLM 太旧，vLLM 从 %s 起支持；不使用它'
    ['GPU %s (%s) has no bfloat16: models on it need dtype = "float16" in er.toml']='GPU %s（%s）没有 bfloat16：其上的模型在 er.toml 里要写 dtype = "float16"'
    ['GPU %s (%s, compute capability %s): newer than this vLLM, which knows up to %s; it may not start']='GPU %s（%s，计算能力 %s）：比这个 vLLM 更新，它最高到 %s；可能无法启动'
    ['no GPU here can run vLLM. Go on without them: ./install.sh --cpu
or install the gateway alone: ./install.sh --no-vllm. Nothing of ER was installed.']='这里没有能运行 vLLM 的 GPU。不用 GPU 继续：./install.sh --cpu
或只装网关：./install.sh --no-vllm。没有安装 ER 的任何部分。'
    ['GPU: none found; the CPU build of vLLM is used (fine for trying, slow for work)']='GPU：没有找到；使用 vLLM 的 CPU 版（适合试用，正式使用会慢）'
    ['a card of %s']='厂商 %s 的卡'
    ['%s at %s; ']='%s，位于 %s；'
    ['%s has %s MB free; this installation needs %s MB. Make room, or mount
a larger disk at %s. Nothing was changed.']='%s 剩余 %s MB；本次安装需要 %s MB。请腾出空间，或把更大的磁盘
挂载到 %s。未做任何改动。'
    ['Disk: %s MB free in %s, %s MB needed']='磁盘：剩余 %s MB（%s），需要 %s MB'
    ['Port %s: taken by %s. ER leaves it alone; until it is free, or another
  port stands in /etc/er/er.toml, what ER wants to run there will say so and try again.']='端口 %s：被 %s 占用。ER 不会动它；在它空出来，或 /etc/er/er.toml 改用
  其他端口之前，要用这个端口的部分会报告此事并不断重试。'
    ['another program']='其他程序'
    ['%s (pid %s)']='%s（pid %s）'

    # programs.sh
    ['Packages of the distribution']='发行版的软件包'
    ['  all there']='  都已安装'
    ['apt-get could not install %s; its message stands above. Run this again when it can.']='apt-get 无法安装 %s；其报错见上。解决后重新运行。'
    ['no %s']='没有 %s'
    ['%s is Python %s; ER needs 3.11 to 3.13']='%s 是 Python %s；ER 需要 3.11 到 3.13'
    ['ER %s, in %s']='ER %s，位于 %s'
    ['  already there']='  已经有了'
    ['make the environment %s']='建立环境 %s'
    ['%s %s, in %s']='%s %s，位于 %s'
    ['%s, as er vllm use has it: this ER brings the same vLLM as before']='%s，按 er vllm use 的选择：此版 ER 自带的 vLLM 与之前相同'
    ['  This fetches gigabytes and takes minutes.']='  要下载数 GB，需要几分钟。'
    ['  once more, in 5 seconds']='  5 秒后再试一次'

    # system.sh
    ['User and group er, directories']='用户和组 er，目录'
    ['user and group er']='用户和组 er'
    ['folders%s']='目录%s'
    ['this version cannot use the configuration here:
%s
The installed version, %s, was left in charge. Correct the file and run this again.
Where it says that a name gives other vectors, and all that is stored is to be built again: %s']='新版本不能使用这里的配置：
%s
已安装的版本 %s 继续使用。请修正配置文件后重新运行。
若提示某个名称会给出不同的向量，且已存的向量都将重建：%s'
    ['Units, rights, audit journal']='单元、权限、审计日志'
    ['  as they should be']='  无需改动'
    ['  polkit is masked here: members of group er need sudo to start and stop ER. To let them do it:
  sudo systemctl unmask polkit.service']='  polkit 在这里被屏蔽：组 er 的成员启动和停止 ER 需要 sudo。要允许他们：
  sudo systemctl unmask polkit.service'
    ['Configuration']='配置'
    ["  /etc/er/er.toml is the demo's"]='  /etc/er/er.toml 是 demo 的'
    ['  /etc/er/er.toml stays as it is']='  /etc/er/er.toml 保持不变'
    ['/etc/er/er.toml for the demo']='/etc/er/er.toml，demo 用'
    ['/etc/er/er.toml, made for this machine']='/etc/er/er.toml，按本机情况生成'
    ['Commands']='命令'
    ['remove %s']='删除 %s'
    ['er.target starts at boot (not now, unless --start)']='er.target 开机启动（现在不启动，除非有 --start）'
    ['  er.target does not start at boot; if it should: sudo systemctl enable er.target']='  er.target 不会开机启动；如果需要：sudo systemctl enable er.target'
    ['  er apply found something; see er check']='  er apply 发现了问题；见 er check'
    ['restart er-gateway (its sockets stay open)']='重启 er-gateway（端口保持监听）'
    ['restart %s']='重启 %s'
    ['%s was restarted with the new version and does not answer: %s
The other replicas go on as they are. See `er status` and `er doctor`; then run this again.']='%s 已用新版本重启，但没有应答：%s
其他副本维持原样。请看 `er status` 和 `er doctor`，然后重新运行。'
    ['First API key']='第一个 API 密钥'
    ['  keys are there (a lost secret is replaced: sudo er keys rotate KEY)']='  已有密钥（密文丢失可以更换：sudo er keys rotate KEY）'
    ['  made; it is shown once, below']='  已生成；只显示一次，见下'
    ['Start']='启动'
    ['Dry run: %s actions, nothing was changed.']='试运行：%s 个操作，未做任何改动。'
    ['Done']='完成'
    ['  Nothing to do: all was as it should be.']='  无事可做：一切就绪。'
    ['  Your API key, shown this once:   %s']='  API 密钥，只显示这一次：   %s'
    ['  Next:']='  接下来：'
    ['    sudo er keys set first --rate-limit 1000/minute     # this key has 100 a minute
    er-console                                          # health, requests, keys, logs
    sudo usermod -aG er,systemd-journal $USER           # steer ER without root']='    sudo er keys set first --rate-limit 1000/minute     # 这个密钥现在每分钟 100 次
    er-console                                          # 健康状况、请求、密钥、日志
    sudo usermod -aG er,systemd-journal $USER           # 不用 root 也能操作 ER'

    # demo.sh
    ['this machine has a configuration already (/etc/er/er.toml); the demo is for a fresh one.
Nothing was changed.']='这台机器已有配置（/etc/er/er.toml）；demo 只用于没装过 ER 的机器。
未做任何改动。'
    ['the demo needs port %s, which %s holds. Nothing was changed.']='demo 需要端口 %s，但它被 %s 占用。未做任何改动。'
    ["The demo's model"]='demo 的模型'
    ['all-MiniLM-L6-v2, in %s']='all-MiniLM-L6-v2，位于 %s'
    ['Until the replica answers (this machine loads vLLM; a minute or two)']='等待副本应答（正在加载 vLLM；一两分钟）'
    ['the replica did not get ready; the causes stand above']='副本没有就绪；原因见上'
    ['the answers were not as they should be']='应答不正确'
    ['How to go on']='下一步'
    ['  It keeps running. Your key:  %s']='  它会一直运行。密钥：  %s'
    ['  For Qwen3, on a machine with a GPU: put the models of Qwen3-Embedding-0.6B and Qwen3-Reranker-0.6B under
  /mnt/workspace/model/Qwen/, then  sudo ./install.sh --uninstall --purge && sudo ./install.sh --start']='  要用 Qwen3，在有 GPU 的机器上：把 Qwen3-Embedding-0.6B 和 Qwen3-Reranker-0.6B 的模型放到
  /mnt/workspace/model/Qwen/，然后  sudo ./install.sh --uninstall --purge && sudo ./install.sh --start'
    ['  To remove the demo:  sudo ./install.sh --uninstall --purge']='  删除 demo：  sudo ./install.sh --uninstall --purge'
    ["PID 1 here is %s, not systemd: the demo boots a small Debian machine with systemd
(systemd-nspawn, in %s) and installs ER in there. It shares this machine's network."]='这里的 PID 1 是 %s，不是 systemd：demo 会启动一台带 systemd 的小型 Debian
（systemd-nspawn，位于 %s），把 ER 装在里面，与本机共用网络。'
    ['  + boot %s, copy ER to /usr/src/er in it, run ./install.sh --demo there']='  + 启动 %s，把 ER 复制到其中的 /usr/src/er，在里面运行 ./install.sh --demo'
    ['No machine could be booted here (its messages stand above), so ER runs in the foreground instead.
What is missing this way: restarts, start at boot, sandboxes, the journal.']='这里无法启动虚拟的机器（报错见上），所以 ER 改在前台运行。
这样会缺少：自动重启、开机启动、沙箱、journal 日志。'
    ['  That machine keeps running. A shell in it:   %s']='  那台机器会一直运行。进入其中的 shell：   %s'
    ['  From here, port 2048 answers as well:        %s']='  在本机，端口 2048 同样应答：             %s'
    ['Start; what they say goes into %s']='启动；输出写入 %s'
    ['  It runs until Ctrl-C. Your key:  %s']='  按 Ctrl-C 结束。密钥：  %s'
    ['  To remove the demo then:  sudo ./install.sh --uninstall --purge']='  之后删除 demo：  sudo ./install.sh --uninstall --purge'
    ['the gateway or the replica ended by itself; its last words stand above']='网关或副本自行结束了；最后的输出见上'

    # remove.sh
    ['Programs and caches']='程序和缓存'
    ['Configuration, state, keys, audit, user']='配置、状态、密钥、审计、用户'
    ['  Nothing of ER was here.']='  这里没有 ER 的任何东西。'
    ['  Kept: /etc/er and /var/lib/er (--purge removes them too).']='  保留：/etc/er 和 /var/lib/er（--purge 会一并删除）。'
    ['  Model files, untouched: %s']='  模型文件，未动：%s'
    ['  %s stays: it holds model files (%s)']='  %s 保留：其中有模型文件（%s）'
    ['remove the empty %s']='删除空目录 %s'
    ['Units']='单元'
    ['stop %s']='停止 %s'
    ['%s no longer starts at boot']='%s 不再开机启动'
    ["  %s has files that are not ER's own; they stay"]='  %s 中有不属于 ER 的文件；予以保留'
    ['user er']='用户 er'
    ['group er']='组 er'
    ["The demo's machine"]='demo 的机器'
    ['shut down and remove %s']='关闭并删除 %s'
    ['shut down %s']='关闭 %s'
)
