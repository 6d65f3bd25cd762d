"""Who keeps which contract: claims that the type checker reads. test_contracts.py asks whether anybody is missing."""

from recot.batches.alternating import DomainPairs
from recot.batches.distinct import UserPairs, Users
from recot.batches.pairs import Pairs
from recot.batches.rows import Rows
from recot.batches.sequences import Masked, Prefixes, Sequences, Windows
from recot.batches.users import MaskedUsers
from recot.batches.walks import Walks
from recot.closed.controls import MeanUser, ShrunkUsers, TruncatedUsers
from recot.closed.factors import NCE, SVD, WRMF
from recot.closed.linear import EASE
from recot.closed.markov import Markov
from recot.closed.neighbours import ItemKNN
from recot.closed.popularity import Popularity
from recot.closed.slim import SLIM
from recot.closed.walks import P3alpha, RP3beta
from recot.denoise.base import Denoiser
from recot.denoise.iterative import IterativeRelabelling
from recot.denoise.prorec import ProRec
from recot.denoise.reweight import RCE, TCE
from recot.denoise.smoothing import PopularitySmoothing
from recot.denoise.soft_matching import SoftMatching
from recot.evaluation.recommender import Recommender
from recot.networks.autoencoder import Autoencoder
from recot.networks.bert4rec import BERT4Rec
from recot.networks.buir import BUIR
from recot.networks.caser import Caser
from recot.networks.cat_art import ART, CAT
from recot.networks.factorisation import Tables
from recot.networks.flow import FlowAutoencoder
from recot.networks.ga_mtcdr import GA_MTCDR
from recot.networks.herograph import HeroGRAPH
from recot.networks.lightgcn import LightGCN
from recot.networks.mf import MF
from recot.networks.neumf import NeuMF
from recot.networks.node2vec import Node2Vec
from recot.networks.pepnet import PEPNet
from recot.networks.recsys_dan import RecSys_DAN, Source
from recot.networks.sasrec import SASRec
from recot.networks.stosa import Stosa
from recot.networks.uclr import Adapted, ContrastiveAutoencoder
from recot.nn.contracts import (
    BootstrapEncoder,
    ClozeEncoder,
    Encoder,
    Network,
    Objective,
    Relabeller,
    SequenceEncoder,
    Supervision,
)
from recot.objectives import contrast
from recot.objectives.alternating import AlternatingBCE, TowerEncoder
from recot.objectives.contrast import CodedEncoder, Contrastive
from recot.objectives.domains import DomainBPR, DomainEncoder
from recot.objectives.masking import MaskedDomains, MaskingEncoder
from recot.objectives.pairs import BCE, BPR, Bootstrap, DirectAU, InfoNCE
from recot.objectives.rows import Multinomial, RowBCE, SampledRowBCE, Squared
from recot.objectives.sequences import Cloze, DuoRec, NextGaussian, NextItem, NextItems
from recot.objectives.transfer import Adversarial, Facing, TransferEncoder
from recot.objectives.transport import Sinkhorn, SinkhornCF
from recot.objectives.walks import NodeEncoder, SkipGram

NETWORKS: list[type[Network]] = [Tables, MF, NeuMF, LightGCN, BUIR, Autoencoder, FlowAutoencoder, Caser, SASRec,
                                 BERT4Rec, Stosa, HeroGRAPH, PEPNet, CAT, ART, Node2Vec, GA_MTCDR, Source, RecSys_DAN,
                                 ContrastiveAutoencoder, Adapted]
SEQUENCE_ENCODERS: list[type[SequenceEncoder]] = [SASRec, BERT4Rec, Stosa]
CLOZE_ENCODERS: list[type[ClozeEncoder]] = [BERT4Rec]
BOOTSTRAP_ENCODERS: list[type[BootstrapEncoder]] = [BUIR]
NODE_ENCODERS: list[type[NodeEncoder]] = [Node2Vec]
TOWER_ENCODERS: list[type[TowerEncoder]] = [GA_MTCDR]
MASKING_ENCODERS: list[type[MaskingEncoder]] = [CAT]
DOMAIN_ENCODERS: list[type[DomainEncoder]] = [HeroGRAPH, PEPNet, CAT, GA_MTCDR]
TRANSFER_ENCODERS: list[type[TransferEncoder]] = [RecSys_DAN]
CODED_ENCODERS: list[type[CodedEncoder]] = [ContrastiveAutoencoder, Adapted]

ON_PAIRS: list[type[Objective[Encoder, Pairs]]] = [BPR, InfoNCE, DirectAU, BCE]
ON_ROWS: list[type[Objective[Encoder, Rows]]] = [RowBCE, SampledRowBCE, Squared, Multinomial, Sinkhorn, SinkhornCF]
ON_WINDOWS: list[type[Objective[Encoder, Windows]]] = [NextItems]
ON_SEQUENCES: list[type[Objective[SequenceEncoder, Sequences]]] = [NextItem, NextGaussian]
ON_PREFIXES: list[type[Objective[SequenceEncoder, Prefixes]]] = [DuoRec]
ON_MASKED: list[type[Objective[ClozeEncoder, Masked]]] = [Cloze]
BOOTSTRAPPED: list[type[Objective[BootstrapEncoder, Pairs]]] = [Bootstrap]
ON_WALKS: list[type[Objective[NodeEncoder, Walks]]] = [SkipGram]
ALTERNATING: list[type[Objective[TowerEncoder, DomainPairs]]] = [AlternatingBCE]
ON_MASKED_USERS: list[type[Objective[MaskingEncoder, MaskedUsers]]] = [MaskedDomains]
BY_DOMAIN: list[type[Objective[DomainEncoder, Pairs]]] = [DomainBPR]
TRANSFERRED: list[type[Objective[TransferEncoder, Facing]]] = [Adversarial]
ON_USERS: list[type[Objective[CodedEncoder, Users]]] = [Contrastive]
ON_USER_PAIRS: list[type[Objective[CodedEncoder, UserPairs]]] = [contrast.Adapted]
OBJECTIVES = [*ON_PAIRS, *ON_ROWS, *ON_WINDOWS, *ON_SEQUENCES, *ON_PREFIXES, *ON_MASKED, *BOOTSTRAPPED, *BY_DOMAIN,
              *ON_MASKED_USERS, *ON_WALKS, *ALTERNATING, *TRANSFERRED, *ON_USERS, *ON_USER_PAIRS]

OF_PAIRS: list[type[Supervision[Pairs]]] = [Denoiser, TCE, RCE, PopularitySmoothing, SoftMatching]
OF_ROWS: list[type[Supervision[Rows]]] = [Denoiser, TCE, RCE]
RELABELLERS: list[type[Relabeller]] = [ProRec]
RELABELLERS_OF_NETWORKS = [IterativeRelabelling]  # no Relabeller to the type checker: it asks for vectors of items

CLOSED_FORMS: list[type[Recommender]] = [Popularity, Markov, ItemKNN, P3alpha, RP3beta, EASE, SLIM, SVD, NCE, WRMF,
                                       MeanUser, ShrunkUsers, TruncatedUsers]
